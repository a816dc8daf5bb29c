//! From a path to the gRPC service that answers it.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tower::Service;

use crate::calls::Arriving;
use crate::refusal::CallRefusal;

/// The response to come of a call. Generated services box theirs, so nothing is boxed again.
pub(crate) type Answer = BoxFuture<Response<Body>, Infallible>;

/// The generated gRPC services of one listener. Cheap to clone.
///
/// An unknown service or method is `UNIMPLEMENTED` with reason `METHOD_UNKNOWN`; a request that is
/// not gRPC gets HTTP status 405 or 415.
#[derive(Clone, Default)]
pub struct Services {
    entries: Arc<Vec<(&'static str, Arc<dyn Entry>)>>,
}

trait Entry: Send + Sync {
    fn call(&self, request: Request<Arriving>) -> Answer;
}

impl<S> Entry for S
where
    S: Service<Request<Arriving>, Response = Response<Body>, Error = Infallible, Future = Answer>
        + Clone
        + Send
        + Sync,
{
    fn call(&self, request: Request<Arriving>) -> Answer {
        // Generated services are always ready and hold their handler in an `Arc`.
        Service::call(&mut self.clone(), request)
    }
}

impl Services {
    /// No service yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated server (`…Server::new(handler)`). Add the busiest first.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<
                Request<Arriving>,
                Response = Response<Body>,
                Error = Infallible,
                Future = BoxFuture<Response<Body>, Infallible>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Arc::make_mut(&mut self.entries).push((S::NAME, Arc::new(service)));
        self
    }

    /// The full names of the services, `fieldseal.v1.EncryptionService` and so on.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().map(|(name, _)| *name)
    }

    fn entry(&self, path: &str) -> Option<&dyn Entry> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.entries.iter().find(|(name, _)| *name == service).map(|(_, entry)| entry.as_ref())
    }
}

impl Services {
    pub(crate) fn answer(&self, request: Request<Arriving>) -> Answer {
        if let Some(status) = not_grpc(&request) {
            return Box::pin(async move {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                Ok(response)
            });
        }
        match self.entry(request.uri().path()) {
            Some(entry) => entry.call(request),
            None => Box::pin(async { Ok(CallRefusal::MethodUnknown.response()) }),
        }
    }
}

/// gRPC over HTTP/2, "Requests": POST, and a content type that begins with `application/grpc`.
fn not_grpc<B>(request: &Request<B>) -> Option<StatusCode> {
    if request.method() != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content = request.headers().get(header::CONTENT_TYPE);
    match content {
        Some(content) if content.as_bytes().starts_with(b"application/grpc") => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
