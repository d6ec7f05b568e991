//! What a client still sends when it has been answered.
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

/// At most so many bytes are read for nothing.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// And for no longer than this.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that can be taken up again by whoever lent it.
struct Lent(Arc<Mutex<Body>>);

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.lock().size_hint()
    }
}

/// Answers a request, and reads what is left of its body.
pub(crate) async fn settle(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Who asks first sends nothing before it is told to.
    let asks_first = parts.headers.contains_key(header::EXPECT);
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(Arc::clone(&body)));
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
