//! A disk that is full again and again while it is written, and a supervisor that starts the sidecar
//! again as `deploy/systemd` does. Nobody else does anything but free the space.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fieldseal_client::{Client, Failure, v1};
use rustix::process::{Pid, Signal, kill_process};

use super::small::{SmallDisk, in_a_namespace};
use super::{MIB, block_on};
use crate::installation::Installation;
use crate::process::PATIENCE;

const ROUNDS: usize = 20;
const WRITERS: usize = 4;
/// What a supervisor does not start again.
const FINAL: [i32; 4] = [0, 2, 3, 9];

/// Starts the sidecar again whenever it ends.
struct Supervisor {
    over: Arc<AtomicBool>,
    pid: Arc<AtomicU32>,
    ends: JoinHandle<Vec<i32>>,
}

impl Supervisor {
    fn of(installation: &Installation, address: &str) -> Self {
        let (over, pid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut command = installation.serve_command();
        command.env("FIELDSEAL_SERVER_ADDRESS_FILE", address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (ended, process) = (Arc::clone(&over), Arc::clone(&pid));
        let ends = std::thread::spawn(move || {
            let mut ends = Vec::new();
            loop {
                let mut child = command.spawn().unwrap();
                process.store(child.id(), Ordering::SeqCst);
                let code = child.wait().unwrap().code().unwrap_or(-1);
                ends.push(code);
                if FINAL.contains(&code) || ended.load(Ordering::SeqCst) {
                    return ends;
                }
            }
        });
        Self { over, pid, ends }
    }

    /// It may have ended by itself a moment ago.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid.load(Ordering::SeqCst)).unwrap();
        let _gone = kill_process(Pid::from_raw(pid).unwrap(), signal);
    }

    /// Stops the sidecar for good; how each of its lives ended.
    fn stop(self) -> Vec<i32> {
        self.over.store(true, Ordering::SeqCst);
        self.signal(Signal::TERM);
        self.ends.join().unwrap()
    }
}

fn request(partition: &str) -> v1::EncryptRequest {
    let mut request = v1::EncryptRequest { partition: partition.to_owned(), ..Default::default() };
    request.field = Some(field());
    request.plaintext =
        Some(v1::Value { kind: Some(v1::value::Kind::StringValue(partition.to_owned())) });
    request
}

fn field() -> v1::Field {
    let key = "keys/customer-pii".to_owned();
    let (table, column) = ("users".to_owned(), "email".to_owned());
    v1::Field { key, table, column, ..Default::default() }
}

/// Tries until a new tenant's value is sealed: a connection, a store and a log that take writes.
async fn serving(installation: &mut Installation, address: &str, tenant: &str) -> Client {
    let begun = Instant::now();
    loop {
        if let Ok(found) = std::fs::read_to_string(address) {
            installation.is_at(found.trim());
            if let Ok(client) = Client::connect(installation.settings("app")).await
                && client.encryption().encrypt(request(tenant)).await.is_ok()
            {
                return client;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "{tenant}: it does not come back by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Seals values of new tenants until it is refused or cut off; those that were acknowledged, and why
/// it ended.
async fn write(client: Client, name: String) -> (Vec<(String, tonic::codegen::Bytes)>, String) {
    let mut held = Vec::new();
    loop {
        let tenant = format!("{name}-{}", held.len());
        match client.encryption().encrypt(request(&tenant)).await {
            Ok(answer) => held.push((tenant, answer.into_inner().ciphertext)),
            Err(status) => return (held, Failure::from(&status).reason().to_owned()),
        }
    }
}

async fn round(
    number: usize,
    installation: &mut Installation,
    (disk, supervisor, address): (&SmallDisk, &Supervisor, &str),
) -> (usize, String) {
    let client = serving(installation, address, &format!("before-{number}")).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(client.clone(), format!("{number}-{writer}"))))
        .collect();
    disk.fill();
    let (mut held, mut why) = (Vec::new(), String::new());
    for writer in writers {
        let (sealed, reason) = writer.await.unwrap();
        held.extend(sealed);
        why = reason;
    }
    // Every second time it also dies: it is started again and again where there is no space.
    if number % 2 == 1 {
        let before = supervisor.pid.load(Ordering::SeqCst);
        supervisor.signal(Signal::KILL);
        let begun = Instant::now();
        while supervisor.pid.load(Ordering::SeqCst) == before {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let second = supervisor.pid.load(Ordering::SeqCst);
        while supervisor.pid.load(Ordering::SeqCst) == second {
            assert!(begun.elapsed() < PATIENCE, "it starts where there is no space");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    disk.free();
    let client = serving(installation, address, &format!("after-{number}")).await;
    for (tenant, ciphertext) in &held {
        let mut request = v1::DecryptRequest { partition: tenant.clone(), ..Default::default() };
        request.field = Some(field());
        request.ciphertext = ciphertext.clone();
        let opened = client.encryption().decrypt(request).await;
        let opened = opened.unwrap_or_else(|e| panic!("{tenant} was acknowledged: {e}"));
        let value = opened.into_inner().plaintext.unwrap().kind;
        assert_eq!(value, Some(v1::value::Kind::StringValue(tenant.clone())));
    }
    (held.len(), why)
}

#[test]
#[ignore = "mounts a small disk: `bash tests/foreign/run` runs it"]
fn a_disk_that_is_full_twenty_times_is_served_again_each_time_without_a_person() {
    let name = "disk::restarts::a_disk_that_is_full_twenty_times_is_served_again_each_time_without_a_person";
    if !in_a_namespace(name) {
        return;
    }
    let mut installation = Installation::with_key();
    assert_eq!(installation.stop(), 0);
    let config = std::fs::read_to_string(installation.config()).unwrap();
    std::fs::write(installation.config(), config.replace("reserve_mib = 64", "reserve_mib = 2"))
        .unwrap();
    let disk = SmallDisk::under(&installation.home().join("state"), 32 * MIB);
    let address = installation.path("address");
    let supervisor = Supervisor::of(&installation, &address);
    let (mut held, mut reasons) = (0, std::collections::BTreeMap::<String, usize>::new());
    for number in 0..ROUNDS {
        let at = (&disk, &supervisor, address.as_str());
        let (sealed, why) = block_on(round(number, &mut installation, at));
        held += sealed;
        *reasons.entry(why).or_default() += 1;
    }
    let ends = supervisor.stop();
    assert_eq!(ends.last(), Some(&0), "{ends:?}");
    let full = ends.iter().filter(|code| **code == 8).count();
    assert!(ends.iter().all(|code| [0, 8, -1].contains(code)), "{ends:?}");
    assert!(full >= ROUNDS / 2, "it was started without space {full} times: {ends:?}");
    assert!(held >= ROUNDS, "{held} values were acknowledged: {reasons:?}");
    assert!(installation.verify(&installation.log()).status.success());
}
