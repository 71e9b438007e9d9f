//! Answers sent as they grow. How a dialect writes them is its own business.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::answering::{Answering, Step};
use crate::wire::Failure;

/// How long a client may hear nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the first event is waited for before a client is told that it has been heard. A failure until then
/// has a status of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a client may take nothing of what it is sent.
const SLOWNESS: Duration = Duration::from_secs(60);

/// Pieces that wait for a client to take them.
const WAITING: usize = 16;

/// How a dialect writes an answer that grows: each function gives text to be sent, or none.
pub(super) trait Writer: Send + 'static {
    /// The media type of what is written.
    const MEDIA: &'static str;

    /// Before anything else.
    fn begin(&mut self) -> String;
    /// One of the answers has got further.
    fn step(&mut self, index: usize, step: Step) -> String;
    /// All are complete.
    fn end(&mut self) -> String;
    /// They failed; nothing follows.
    fn fail(&mut self, failure: &Failure) -> String;
    /// Nothing has happened for a while.
    fn ping(&mut self) -> String;
}

/// Sends answers as they grow.
///
/// # Errors
/// What they fail with before anything was sent.
pub(super) async fn respond<W: Writer>(
    mut answering: Answering,
    writer: W,
) -> Result<Response, Failure> {
    if let Ok(begun) = timeout(PATIENCE, answering.begun()).await {
        begun?;
    }
    let (sender, pieces) = mpsc::channel(WAITING);
    tokio::spawn(pump(answering, writer, sender));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(W::MEDIA)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let unbuffered = [("x-accel-buffering", "no")];
    let body = Body::from_stream(ReceiverStream::new(pieces));
    Ok((headers, unbuffered, body).into_response())
}

/// Writes until the answers are complete, or the client has left or takes nothing any more: what then has not
/// ended is cancelled.
async fn pump<W: Writer>(
    mut answering: Answering,
    mut writer: W,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
) {
    let mut text = writer.begin();
    let last = loop {
        if !send(&sender, text).await {
            return;
        }
        text = tokio::select! {
            () = sender.closed() => return,
            () = sleep(SILENCE) => writer.ping(),
            next = answering.next() => match next {
                Ok(Some((index, step))) => writer.step(index, step),
                Ok(None) => break writer.end(),
                Err(failure) => {
                    answering.failed();
                    break writer.fail(&failure);
                }
            },
        };
    };
    // Whoever has read the last word finds the place free.
    drop(answering);
    send(&sender, last).await;
}

/// Sends a piece, if it is one; says whether the client takes it.
async fn send(sender: &mpsc::Sender<Result<Bytes, Infallible>>, text: String) -> bool {
    if text.is_empty() {
        return true;
    }
    let sent = timeout(SLOWNESS, sender.send(Ok(text.into()))).await;
    matches!(sent, Ok(Ok(())))
}

/// An event of a stream of server-sent events that has no name.
pub(super) fn data(value: &serde_json::Value) -> String {
    format!("data: {value}\n\n")
}
