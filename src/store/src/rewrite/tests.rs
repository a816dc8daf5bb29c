//! Stopped at any step, a store knows whether what was erased has left its files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fieldseal_crypto::ServiceKey;
use fieldseal_crypto::record::{AnchorKey, PathKey, StorageKey};
use fieldseal_model::InstallationId;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::backend::sled::SledBackend;
use crate::damage::Trouble;
use crate::lock::DirectoryLock;
use crate::store::Base;
use crate::{Kind, Secrets, Settings, Store, Txn};

pub(crate) fn secrets() -> Secrets {
    let key = |byte: u8| ServiceKey::from_bytes(&mut [byte; 32]);
    Secrets {
        installation: InstallationId::new([1; 16]),
        storage: StorageKey::new(key(1)),
        path: PathKey::new(key(2)),
        anchor: AnchorKey::new(key(3)),
    }
}

pub(crate) fn settings(directory: &Path) -> Settings {
    Settings { reserve_bytes: 0, ..Settings::sled(directory.to_owned()) }
}

pub(crate) fn change() -> Txn {
    Txn::new(Box::new(|_, _| b"an event".to_vec()))
}

/// What a killed process leaves is looked at in `images`, one directory for each step.
fn watched(directory: &Path, images: &Path) -> (Store, Arc<Mutex<Vec<String>>>) {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let lock = DirectoryLock::acquire(directory).unwrap();
    let trouble = Trouble::default();
    let backend = SledBackend::open(directory, trouble.clone()).unwrap();
    let (from, to, seen) = (directory.to_owned(), images.to_owned(), Arc::clone(&steps));
    *backend.seen.lock() = Some(Box::new(move |step| {
        let mut seen = seen.lock();
        let image = to.join(seen.len().to_string());
        fs::create_dir(&image).unwrap();
        crate::copying::copy(&from, &image).unwrap();
        seen.push(step.to_owned());
    }));
    let base = Base { backend: Arc::new(backend), lock: Some(Arc::new(lock)), trouble };
    let outbox = mpsc::unbounded_channel().0;
    (Store::start(&settings(directory), secrets(), outbox, base).unwrap(), steps)
}

#[tokio::test]
async fn it_is_due_until_the_new_files_count() {
    let (place, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = place.path().join("store");
    let outbox = mpsc::unbounded_channel().0;
    let store = Store::create(settings(&directory), secrets(), outbox).unwrap();
    let path = store.path(Kind::new(1), &[b"name"]);
    store.txn(change().put(path.clone(), b"secret".to_vec())).await.unwrap();
    let erased = store.txn(change().delete(path).erasing()).await.unwrap();
    store.close().await;
    drop(store);
    let (store, steps) = watched(&directory, images.path());
    assert!(store.is_rewrite_due());
    store.rewrite().await.unwrap();
    assert!(!store.is_rewrite_due() && store.rewritten_at() == erased);
    let steps = steps.lock().clone();
    let renamed = steps.iter().position(|step| step == "renamed").unwrap();
    for step in ["begun", "copied", "synced", "marked", "named"] {
        assert!(steps.iter().take(renamed).any(|seen| seen == step), "{step}");
    }
    for (at, step) in steps.iter().enumerate() {
        let image = images.path().join(at.to_string());
        let outbox = mpsc::unbounded_channel().0;
        let opened = Store::open(settings(&image), secrets(), outbox).unwrap();
        assert_eq!(opened.is_rewrite_due(), at < renamed, "stopped after {at}: {step}");
        assert_eq!(opened.rewritten_at() == erased, at >= renamed, "{at}: {step}");
        opened.close().await;
    }
}
