//! The body of a request, counted while it arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::refusal::CallRefusal;
use crate::usage::Held;

/// A request's body. It ends with an error when the process holds as many bytes of requests as it
/// takes: until then nobody has looked at what the caller may do.
pub struct Arriving {
    body: Incoming,
    held: Arc<Held>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, held: Arc<Held>) -> Self {
        Self { body, held }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if self.held.grow(bytes) {
            return Poll::Ready(Some(Ok(frame)));
        }
        Poll::Ready(Some(Err(CallRefusal::RequestMemoryFull.status().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
