//! Health checks (`grpc.health.v1`) and reflection.

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_health::server::HealthService;

use crate::services::Services;

/// Says whether the process can serve. Dropping it says that it cannot.
#[derive(Debug)]
pub struct Readiness {
    ready: watch::Sender<bool>,
}

impl Readiness {
    /// Not ready yet.
    #[must_use]
    pub fn new() -> Self {
        Self { ready: watch::Sender::new(false) }
    }

    /// Changes what health checks answer.
    pub fn set(&self, ready: bool) {
        self.ready.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// Whether it is ready now, and every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds the health service, which answers for the whole process (the empty name) and for each
/// service that `services` holds. A task follows `ready` until its sender is gone; then it answers
/// `NOT_SERVING` for good.
pub async fn with_health(services: Services, ready: watch::Receiver<bool>) -> Services {
    let reporter = HealthReporter::new();
    let mut names: Vec<&'static str> = services.names().collect();
    names.push("");
    publish(&reporter, &names, *ready.borrow()).await;
    tokio::spawn(follow(reporter.clone(), names, ready));
    services.with(HealthServer::new(HealthService::from_health_reporter(reporter)))
}

async fn follow(
    reporter: HealthReporter,
    names: Vec<&'static str>,
    mut ready: watch::Receiver<bool>,
) {
    while ready.changed().await.is_ok() {
        let now = *ready.borrow_and_update();
        publish(&reporter, &names, now).await;
    }
    publish(&reporter, &names, false).await;
}

async fn publish(reporter: &HealthReporter, names: &[&'static str], ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(*name, status).await;
    }
}

/// Adds reflection (`grpc.reflection.v1` and `v1alpha`) over the encoded file descriptor sets.
///
/// # Errors
/// If a set cannot be decoded.
pub fn with_reflection(
    services: Services,
    descriptors: &'static [u8],
) -> Result<Services, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(services.with(builder().build_v1()?).with(builder().build_v1alpha()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_begins_with_no_and_ends_with_its_owner() {
        let readiness = Readiness::new();
        let mut watch = readiness.watch();
        assert!(!*watch.borrow_and_update());
        readiness.set(false);
        assert!(!watch.has_changed().unwrap());
        readiness.set(true);
        assert!(*watch.borrow_and_update());
        drop(readiness);
        assert!(watch.has_changed().is_err());
    }
}
