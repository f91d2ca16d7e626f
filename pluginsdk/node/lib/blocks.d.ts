/** What the function of a project gets, for projects that have not installed Blocks' own package. */

export interface ArtifactRef {
  kind: 'inline' | 'file';
  mimeType: string;
  size: number;
  data?: string;
  fileName?: string;
  [member: string]: unknown;
}

export interface RequestPart {
  partId?: string;
  text?: string;
  contentType?: string;
  artifactRef?: ArtifactRef;
  [member: string]: unknown;
}

export interface StartTaskMessage {
  type: 'StartTask';
  taskId: string;
  agentName: string;
  ownerId: string;
  orgId: string;
  requestParts: RequestPart[];
  callerClaims: Record<string, unknown>;
  requestSummary: Record<string, unknown>;
  taskKind: 'request' | 'pipe';
  /** Minutes, of a pipe task. */
  duration?: number;
  durationExpiresAtMs?: number;
  consumerPublicKey?: string;
  hasStream: boolean;
}

export interface ArtifactEntry {
  data: string | Uint8Array;
  mimeType?: string;
  fileName?: string;
  outputId?: string;
}

export interface HandlerResult {
  artifacts?: ArtifactEntry[];
}

export interface CreateStreamOptions {
  declaredStream?: string;
  direction?: 'outbound' | 'inbound' | 'bidirectional';
  format?: 'bytes' | 'events';
  metadata?: object;
  external?: boolean;
  onActivate?(stream: StreamObject): void | Promise<void>;
  subscribeGraceMs?: number;
  /** Taken and not needed: the daemon bundles. */
  bundleSizeBytes?: number;
  maxLatencyMs?: number;
}

export interface StreamError {
  category: string;
  error: Error;
  channel: string;
  timestamp: number;
  fatal: boolean;
}

export interface StreamObject {
  readonly streamId: string;
  readonly channel: string;
  readonly uuid: string;
  readonly isActive: boolean;
  readonly external: boolean;
  readonly token?: string;
  write(data: unknown): Promise<void>;
  end(): Promise<void>;
  activate(options?: { metadata?: object }): Promise<void>;
  bytes(): AsyncIterable<Uint8Array>;
  events<T = unknown>(): AsyncIterable<T>;
  readable(): Promise<import('node:stream').Readable>;
  readonly inbound: AsyncIterable<{ data: unknown[]; seq: number; ts: number; format: string; encoding: string }>;
  onEnd(callback: () => void): void;
  onError(callback: (error: StreamError) => void): void;
}

export interface StreamDescriptor {
  taskId: string;
  streamId: string;
  agentName: string;
  agentDirection: string;
  localDirection: string;
  format: 'bytes' | 'events';
  affinity: 'dedicated' | 'shared';
  metadata?: unknown;
  declaredStream?: string;
  /** Empty: the daemon carries the stream. */
  channel: string;
  token: string;
}

/** A stream of a called task, opened or not. */
export class StreamRef {
  readonly descriptor: StreamDescriptor;
  readonly isOpen: boolean;
  open(options?: { reorderTimeoutMs?: number }): StreamObject;
}

export class StreamUnavailableError extends Error {
  readonly taskId: string;
  readonly streamId: string;
  readonly declaredStream?: string;
  readonly terminalState: string;
}

export interface TaskSession {
  readonly taskId: string;
  readonly ownerId: string;
  readonly queued: boolean;
  readonly idempotent: boolean;
  readonly state?: string;
  readonly isClosed: boolean;
  onEvent(callback: (event: any) => void): () => void;
  onProgress(callback: (event: any) => void): () => void;
  onArtifact(callback: (event: any) => void): () => void;
  onTerminal(callback: (event: any) => void): () => void;
  onCancelRequested(callback: (event: any) => void): () => void;
  onError(callback: (error: Error, context: object) => void): () => void;
  onStream(callback: (stream: StreamRef) => void): () => void;
  listStreams(): StreamRef[];
  openAllStreams(options?: { reorderTimeoutMs?: number }): StreamObject[];
  waitForStream(streamId?: string, timeoutMs?: number): Promise<StreamRef>;
  waitForStreamWhere(predicate: (stream: StreamRef) => boolean, timeoutMs?: number): Promise<StreamRef>;
  waitForTerminal(timeoutMs?: number): Promise<any>;
  listEvents(): any[];
  listArtifacts(): ArtifactRef[];
  downloadArtifact(ref: ArtifactRef): Promise<{ data: Uint8Array; mimeType: string; fileName?: string }>;
  saveArtifacts(directory: string): Promise<string[]>;
  cancel(): Promise<void>;
  terminate(): Promise<void>;
  close(): void;
  asyncClose(): Promise<void>;
}

export interface SendMessageParams {
  agentName: string;
  requestParts: Array<RequestPart | string | { partId: string; file: unknown; fileName?: string; contentType?: string }>;
  ownerId?: string;
  idempotencyKey?: string;
  taskKind?: 'request' | 'pipe';
  duration?: number;
  /** Asks for the streams of a request task. */
  stream?: boolean;
}

export class TaskClient {
  sendMessage(params: SendMessageParams): Promise<TaskSession>;
  getUserId(): string;
  destroy(): void;
}

export class TaskContext {
  readonly taskId: string;
  readonly hasStream: boolean;
  readonly consumerPublicKey?: string;
  readonly requestParts: RequestPart[];
  readonly cancelSignal: AbortSignal;
  readonly isCancelled: boolean;
  readonly isExpired: boolean;
  readonly taskClient: TaskClient;
  reportStatus(text: string): void;
  publishArtifact(data: string | Uint8Array, options?: Omit<ArtifactEntry, 'data'>): Promise<void>;
  downloadInputArtifact(part: RequestPart): Promise<Buffer>;
  createStream(options?: CreateStreamOptions): Promise<StreamObject>;
}

export const BLOCKS_MAX_UPLOAD_BYTES: number;
export function textPart(text: string, partId?: string): RequestPart;
export function filePart(data: Uint8Array | ArrayBuffer, options?: { partId?: string; fileName?: string; contentType?: string }): any;
export function filePartFromPath(path: string, options?: { partId?: string; fileName?: string; contentType?: string }): Promise<any>;
export function decodeInlineArtifact(ref: ArtifactRef): { data: Uint8Array; mimeType: string; fileName?: string };
