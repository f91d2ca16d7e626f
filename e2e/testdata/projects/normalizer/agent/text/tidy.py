def tidy(text: str) -> str:
    return " ".join(text.split())
