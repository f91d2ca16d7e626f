//! A handler for blocksd in Rust, written from docs/handler-contract.md alone: it counts the words of a text.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

pub mod handlerv1 {
    tonic::include_proto!("blocks.handler.v1");
}
pub mod plugin {
    tonic::include_proto!("plugin");
}

use handlerv1::handler_service_server::{HandlerService, HandlerServiceServer};
use handlerv1::start_task_response::Event;
use handlerv1::*;
use plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};

const CARD: &[u8] = include_bytes!("../agent-card.json");
const MAX_MESSAGE: usize = 16 << 20;
/// How long one word takes, so that there is something to cancel.
const PER_WORD: Duration = Duration::from_micros(100);

/// The handler service. Running tasks are known by their ids, so that they can be canceled.
#[derive(Clone, Default)]
struct Handler {
    running: Arc<Mutex<HashMap<String, watch::Sender<bool>>>>,
}

#[tonic::async_trait]
impl HandlerService for Handler {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            name: "wordcount".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            sdk: "none (tonic)".into(),
            agent_cards_json: vec![CARD.to_vec()],
            capabilities: Some(Capabilities { idempotent: true, cancel: true }),
        }))
    }

    type StartTaskStream = ReceiverStream<Result<StartTaskResponse, Status>>;

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Result<Response<Self::StartTaskStream>, Status> {
        let task = request.into_inner().task.ok_or_else(|| Status::invalid_argument("there is no task"))?;
        let (canceler, mut canceled) = watch::channel(false);
        self.running.lock().unwrap().insert(task.task_id.clone(), canceler);
        let (to_daemon, responses) = mpsc::channel(4);
        let running = self.running.clone();
        tokio::spawn(async move {
            let send = |event| to_daemon.send(Ok(StartTaskResponse { event: Some(event) }));
            let last = tokio::select! {
                outcome = count(&task, &send) => match outcome {
                    Ok(()) => Event::Result(handlerv1::Result::default()),
                    Err(text) => Event::Error(Error { public_message: text, ..Default::default() }),
                },
                _ = canceled.wait_for(|canceled| *canceled) => Event::Error(Error { public_message: "canceled".into(), ..Default::default() }),
            };
            let _ = send(last).await; // the daemon may be gone
            running.lock().unwrap().remove(&task.task_id);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn cancel_task(&self, request: Request<CancelTaskRequest>) -> Result<Response<CancelTaskResponse>, Status> {
        let request = request.into_inner();
        eprintln!("[INFO] task {} is to end ({:?})", request.task_id, request.reason());
        if let Some(canceler) = self.running.lock().unwrap().get(&request.task_id) {
            let _ = canceler.send(true); // it may have ended just now
        }
        Ok(Response::new(CancelTaskResponse::default()))
    }
}

/// Works on one task. An error is a sentence for the consumer.
async fn count<F, S>(task: &Task, send: &F) -> std::result::Result<(), String>
where
    F: Fn(Event) -> S,
    S: std::future::Future,
{
    let text = task.parts.iter().find(|p| p.part_id == "request").and_then(|p| p.text.as_deref());
    let text = text.ok_or("the input \"request\" is missing")?;
    send(Event::Status("counting".into())).await;
    let words = text.split_whitespace().count();
    tokio::time::sleep(PER_WORD * words.min(10_000) as u32).await;
    send(Event::Artifact(ArtifactChunk {
        info: Some(ArtifactInfo { output_id: "count".into(), mime_type: "text/plain".into(), file_name: String::new() }),
        data: words.to_string().into_bytes(),
        last: true,
    }))
    .await;
    Ok(())
}

/// Ends the process when the daemon asks for it.
struct Controller(watch::Sender<bool>);

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<plugin::Empty>) -> Result<Response<plugin::Empty>, Status> {
        let _ = self.0.send(true); // it stops already
        Ok(Response::new(plugin::Empty {}))
    }
}

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if std::env::var("BLOCKS_HANDLER_COOKIE").as_deref() != Ok("blocks.handler.v1") {
        eprintln!("wordcount is a Blocks handler and does nothing by itself: put it into a plugins directory of blocksd.");
        std::process::exit(1);
    }
    let socket = PathBuf::from(std::env::var("PLUGIN_UNIX_SOCKET_DIR")?).join("wordcount.sock");
    let listener = UnixListener::bind(&socket)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("plugin", tonic_health::ServingStatus::Serving).await;
    let (stop, mut stopped) = watch::channel(false);
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Standard output is a pipe; println! ends the line, and Rust flushes it there.
    println!("1|1|unix|{}|grpc|", socket.display());
    tonic::transport::Server::builder()
        .add_service(health_service)
        .add_service(GrpcControllerServer::new(Controller(stop)))
        .add_service(
            HandlerServiceServer::new(Handler::default())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                _ = terminated.recv() => {}
            }
        })
        .await?;
    Ok(())
}
