/** Handlers for blocksd. */

export type Bytes = string | Uint8Array | ArrayBuffer;

/** A piece of output. It needs data, or a body that yields texts or bytes. */
export interface Artifact {
  data?: Bytes;
  body?: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;
  /** application/octet-stream where it is left out; text/plain for a bare text. */
  mimeType?: string;
  fileName?: string;
  /** An output of the card. */
  outputId?: string;
}

/** A handler: the function may return its one artifact. */
export interface Handler {
  /** For logs and status; the file name where it is left out. */
  name?: string;
  version?: string;
  /** The agent cards, as objects or JSON; none when the card is a file beside the handler. */
  cards?: Array<object | string | Uint8Array>;
  /** A task that has published nothing may be repeated after a crash. */
  idempotent?: boolean;
  run(task: Task): Promise<Artifact | Bytes | void> | Artifact | Bytes | void;
}

/** Serves a handler to the daemon that started this process. */
export function serve(handler: Handler | Handler['run']): Promise<void>;

export type CancelReason = 'user' | 'expired' | 'terminated' | 'deadline' | 'drain' | 'shutdown' | 'ended';

export interface Task {
  readonly id: string;
  readonly agentName: string;
  /** A long-running task with an agreed duration. */
  readonly pipe: boolean;
  readonly durationMs?: number;
  readonly parts: Part[];
  readonly ownerId: string;
  readonly orgId: string;
  readonly callerClaims?: unknown;
  readonly requestSummary?: unknown;
  /** When the daemon will cancel the task. */
  readonly deadline?: Date;
  /** The caller wants streams. */
  readonly hasStream: boolean;
  readonly consumerPublicKey?: string;
  /** The task's place in a trace (key traceparent), for propagation.extract of OpenTelemetry; empty where nobody traces. */
  readonly traceContext: Record<string, string>;
  /** Aborted with a CanceledError when the task is asked to end. */
  readonly signal: AbortSignal;
  /** Records that carry the task's id. */
  readonly log: Logger;

  /** The text of the first part called id that has one. */
  text(id: string): string | undefined;
  /** The text of a part as the JSON value that it is; an error for the consumer where it is none. */
  json<T = unknown>(id: string): T;
  file(id: string): InputFile;
  fileAt(index: number): InputFile;

  /** Shows a text to the consumer: at most one a second, the latest. */
  status(text: string): void;
  /** Publishes an artifact in order with statuses and others. */
  send(artifact: Artifact | Bytes): Promise<void>;
  /** Publishes an artifact while the task goes on, and resolves when the network has it. */
  publish(artifact: Artifact | Bytes): Promise<void>;

  createStream(options?: StreamOptions): Promise<Stream>;
  /** Submits a task to another agent; a text is its part "request". */
  call(agentName: string, parts: string | CallPart[], options?: CallOptions): Promise<Call>;

  /** A pipe task is over when run returns; otherwise it goes on with its streams. */
  complete(): void;
  /** Ends a pipe task, as soon as run has returned. */
  end(error?: Error): Promise<void>;
}

export interface Part {
  id: string;
  contentType: string;
  text?: string;
  file?: FileInfo;
  /** The part as it was sent. */
  raw?: unknown;
}

/** The name is the sender's choice: never use it as a path unchecked. */
export interface FileInfo {
  name: string;
  mimeType: string;
  size: number;
}

export interface InputFile extends FileInfo, AsyncIterable<Buffer> {
  bytes(): Promise<Buffer>;
}

export type StreamDirection = 'outbound' | 'inbound' | 'bidirectional';
export type StreamFormat = 'bytes' | 'events';

export interface StreamOptions {
  /** The key in the card; may be left out when the card declares one stream. */
  name?: string;
  /** Checked against the card. */
  direction?: StreamDirection;
  format?: StreamFormat;
  /** An object for the consumer. */
  metadata?: object;
  /** Another process writes the stream. */
  external?: boolean;
  /** How long the consumer gets to open the stream before it is written; the network keeps the first messages anyway. */
  graceMs?: number;
}

/** Read it with for await: buffers of a stream of bytes, values of a stream of events. */
export interface Stream<T = unknown> extends AsyncIterable<T> {
  readonly id: string;
  readonly name: string;
  readonly direction: StreamDirection;
  readonly format: StreamFormat;
  readonly shared: boolean;
  readonly created: boolean;
  readonly first: boolean;
  readonly channel: string;
  readonly external?: { token: string; publishKey: string; subscribeKey: string; origin: string; expires?: Date };
  /** Messages that the network has lost. */
  readonly missed: number;
  readonly endReason?: string;
  /** Resolves when the daemon has taken it; several writes keep their order. */
  write(value: unknown): Promise<void>;
  /** Resolves when the network has acknowledged everything. */
  flush(): Promise<void>;
  end(): Promise<void>;
  fail(reason: string): Promise<void>;
  activate(metadata?: object): Promise<void>;
}

export interface CallPart {
  id: string;
  text?: string;
  file?: Bytes | AsyncIterable<Uint8Array>;
  fileName?: string;
  contentType?: string;
}

export interface CallOptions {
  /** Makes it a pipe task. */
  durationMinutes?: number;
  idempotencyKey?: string;
  ownerId?: string;
  /** It goes on when this task ends. */
  detached?: boolean;
  /** The called request task may have streams; a pipe task always may. */
  stream?: boolean;
  /** Of a span of the handler's own, as propagation.inject of OpenTelemetry fills it in; without it the task's. */
  traceContext?: Record<string, string>;
  signal?: AbortSignal;
}

/** An event of a called task, as the network has it. */
export interface TaskEvent {
  type: string;
  taskId: string;
  [member: string]: unknown;
}

/** A stream of a called task. Its direction is seen from here: inbound can be read. */
export interface CalledStream {
  id: string;
  /** Its key in the card of the called agent; may be empty. */
  name: string;
  direction: StreamDirection;
  format: StreamFormat;
  shared: boolean;
  metadata?: unknown;
}

/** A task of another agent; for await yields its events, the terminal last. */
export interface Call extends AsyncIterable<TaskEvent> {
  readonly taskId: string;
  readonly queued: boolean;
  readonly idempotent: boolean;
  result(): Promise<TaskEvent>;
  artifacts(): TaskEvent[];
  /** How it ended, undefined while it runs. */
  readonly terminal?: TaskEvent;
  /** The streams that the called task has announced so far. */
  streams(): CalledStream[];
  /** Waits for a stream, by its key in the card or its id, or for the only one, and opens it. */
  stream<T = unknown>(name?: string, options?: { signal?: AbortSignal }): Promise<Stream<T>>;
  /** Waits for the first stream for which fits returns true, and opens it. It is asked once for each stream. */
  streamWhere<T = unknown>(fits: (stream: CalledStream) => boolean | Promise<boolean>, options?: { signal?: AbortSignal }): Promise<Stream<T>>;
  /** Opens each stream that can be read as it is announced, until the called task has ended; without those that are over. */
  openAll<T = unknown>(options?: { signal?: AbortSignal }): AsyncGenerator<Stream<T>, void, undefined>;
  /**
   * Saves the artifacts that have come so far in a directory, under safe names, and resolves with their paths. Nothing is
   * written elsewhere or replaced. It fails with a SaveError.
   */
  save(directory: string, options?: { signal?: AbortSignal }): Promise<string[]>;
  download(index: number): Promise<{ data: Buffer; mimeType: string; fileName: string; outputId: string }>;
  control(verb: 'cancel' | 'terminate' | 'pause' | 'resume' | 'retry'): Promise<void>;
  cancel(): Promise<void>;
  close(): void;
}

export interface Logger {
  debug(text: string, attributes?: object): void;
  info(text: string, attributes?: object): void;
  warn(text: string, attributes?: object): void;
  error(text: string, attributes?: object): void;
}

export const log: Logger;

/** An error whose text the consumer sees, while its cause goes only to the log. */
export class PublicError extends Error {
  constructor(text: string, cause?: unknown);
}

/** Why a task was asked to end. */
export class CanceledError extends Error {
  readonly reason: CancelReason;
}

export class TaskEndedError extends Error {}

/** A call of the daemon's host service has failed; code is gRPC's. */
export class HostError extends Error {
  readonly code?: number;
}

/** Not all artifacts of a called task could be saved. */
export class SaveError extends Error {
  /** Of the files that are complete. */
  readonly paths: string[];
}
