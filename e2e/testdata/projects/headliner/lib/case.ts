export const titleCase = (text: string): string => text.replace(/\b\w/g, (letter) => letter.toUpperCase());
