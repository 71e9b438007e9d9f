//! Connections: how many, how long they may be silent, and how they end. Knows nothing of what is asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Connections at a time; others wait until one ends.
const CONNECTIONS: usize = 4096;

/// How long a client may take for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How large the head of a request may be.
const HEAD_BYTES: usize = 64 << 10;

/// After a failure to accept, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that takes connections.
pub(super) struct Listening {
    end: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Begins to take connections.
    pub(super) fn begin(listener: TcpListener, router: Router) -> Self {
        let (end, ending) = oneshot::channel();
        let task = tokio::spawn(accept(listener, router, ending));
        Self { end, task }
    }

    /// Takes no more connections, and waits for those that are being answered as long as `grace`.
    pub(super) async fn end(self, grace: Duration) {
        // Where the task has ended, it waits for nobody.
        let _: Result<(), Duration> = self.end.send(grace);
        drop(self.task.await);
    }
}

async fn accept(listener: TcpListener, router: Router, mut ending: oneshot::Receiver<Duration>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let grace = loop {
        let place = Arc::clone(&places).acquire_owned();
        let Ok(place) = place.await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            grace = &mut ending => break grace.unwrap_or_default(),
        };
        let Ok((stream, _)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            // A client that broke off is no news to anybody.
            drop(connection.await);
            drop(place);
        });
    };
    drop(listener);
    drop(timeout(grace, graceful.shutdown()).await);
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // Pieces of an answer are small and should not wait for each other.
    drop(stream.set_nodelay(true));
    Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
