//! A request's body: how long it is waited for, and what a client still sends of it when it has been answered.
//!
//! A connection that is closed with unread input is reset by the kernel, and the reset overtakes the answer. So the rest of
//! a body is read and thrown away before the answer goes out, for as long as that is cheap.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use parking_lot::Mutex;
use tokio::time::Sleep;

/// At most so many bytes are read for nothing.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// And for no longer than this.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body took too long")]
pub(crate) struct TooSlow;

impl TooSlow {
    /// Whether this is why reading a body failed.
    pub(crate) fn is_in(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut error = Some(error);
        while let Some(e) = error {
            if e.is::<Self>() {
                return true;
            }
            error = e.source();
        }
        false
    }
}

/// A body that can be taken up again by whoever lent it, and that has to have come by a deadline.
struct Lent {
    body: Arc<Mutex<Body>>,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *self.body.lock()).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.deadline
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(axum::Error::new(TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.lock().size_hint()
    }
}

/// Answers a request whose body has to have come within `timeout`, and reads what is left of it.
pub(crate) async fn settle(timeout: Duration, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Who asks first sends nothing before it is told to.
    let asks_first = parts.headers.contains_key(header::EXPECT);
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent {
        body: Arc::clone(&body),
        deadline: Box::pin(tokio::time::sleep(timeout)),
    });
    let response = next.run(Request::from_parts(parts, lent)).await;
    if !asks_first {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(&body)).await;
    }
    response
}

async fn drain(body: &Mutex<Body>) {
    let mut read = 0;
    while read < DRAIN_BYTES_MAX {
        let frame = std::future::poll_fn(|cx| {
            let mut body = body.lock();
            if body.is_end_stream() {
                Poll::Ready(None)
            } else {
                Pin::new(&mut *body).poll_frame(cx)
            }
        });
        match frame.await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}
