//! Reading the policy again while 64 callers are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fieldseal_client::{Client, Failure, v1};

use crate::installation::{Installation, place};
use crate::policy::write;

/// One decrypt of a caller.
struct Call {
    began: Instant,
    ended: Instant,
    allowed: bool,
}

/// One reload: what it did to the right to decrypt.
struct Turn {
    began: Instant,
    acknowledged: Instant,
    allows: bool,
}

const CALLERS: usize = 64;
const TURNS: usize = 16;
/// Calls that must end after each reload before the next begins.
const CALLS_EACH_TURN: u64 = 256;

/// Decrypts again and again until it is told to stop.
async fn decrypt_until(
    client: Client,
    ciphertext: Arc<Vec<u8>>,
    done: Arc<AtomicU64>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Vec<Call> {
    let mut sealer = client.encryption();
    let field = v1::Field {
        key: "keys/customer-pii".into(),
        table: "users".into(),
        column: "email".into(),
        extra_context: Vec::new(),
    };
    let mut calls = Vec::new();
    while !*stop.borrow_and_update() {
        let request = v1::DecryptRequest {
            field: Some(field.clone()),
            ciphertext: ciphertext.to_vec().into(),
            ..Default::default()
        };
        let began = Instant::now();
        let result = sealer.decrypt(request).await;
        let ended = Instant::now();
        let allowed = match result {
            Ok(reply) => reply.into_inner().plaintext.is_some(),
            Err(status) => {
                assert_eq!(Failure::from(&status).reason(), "PERMISSION_DENIED", "{status:?}");
                false
            }
        };
        calls.push(Call { began, ended, allowed });
        done.fetch_add(1, Ordering::Release);
    }
    calls
}

/// Waits until so many calls have ended.
async fn until(done: &AtomicU64, calls: u64) {
    while done.load(Ordering::Acquire) < calls {
        tokio::task::yield_now().await;
    }
}

async fn turns(installation: &Installation, done: &AtomicU64) -> Vec<Turn> {
    let good = std::fs::read_to_string(installation.rules()).unwrap();
    let never = format!(
        "{good}\n@id(\"never\") forbid (principal, action == Action::\"Decrypt\", resource);\n"
    );
    let mut system = installation.client("ops").await.system();
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        until(done, done.load(Ordering::Acquire) + CALLS_EACH_TURN).await;
        let allows = turn % 2 == 1;
        write(&installation.rules(), if allows { &good } else { &never });
        let began = Instant::now();
        let request = v1::ReloadPolicyRequest { reason: None };
        system.reload_policy(request).await.unwrap();
        turns.push(Turn { began, acknowledged: Instant::now(), allows });
    }
    until(done, done.load(Ordering::Acquire) + CALLS_EACH_TURN).await;
    turns
}

#[expect(clippy::print_stdout, reason = "how much was seen belongs to the result")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_never_see_a_right_that_an_acknowledged_reload_took() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &["--binary"]), b"x");
    let sealed = Arc::new(sealed);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let done = Arc::new(AtomicU64::new(0));
    let client = installation.client("app").await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (client.clone(), Arc::clone(&done));
            tokio::spawn(decrypt_until(client, Arc::clone(&sealed), done, stopped.clone()))
        })
        .collect();
    let turns = turns(&installation, &done).await;
    stop.send(true).unwrap();
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(caller.await.unwrap());
    }

    // Between two reloads it is known what decides. During one, either may.
    let (mut wrong, mut during, mut known) = (0, 0, [0_u64; 2]);
    for call in &calls {
        let before = turns.iter().rev().find(|turn| turn.acknowledged <= call.began);
        let allows = before.is_none_or(|turn| turn.allows);
        let meanwhile = |turn: &&Turn| call.began < turn.acknowledged && turn.began < call.ended;
        let may_differ = turns.iter().filter(meanwhile).any(|turn| turn.allows != allows);
        if may_differ {
            during += 1;
        } else {
            known[usize::from(allows)] += 1;
            wrong += usize::from(call.allowed != allows);
        }
    }
    let counts = format!(
        "{} calls of {CALLERS} callers, {TURNS} reloads: {} where it is denied, {} where it is \
         allowed, {during} during a reload, {wrong} wrong",
        calls.len(),
        known[0],
        known[1]
    );
    println!("{counts}");
    assert_eq!(wrong, 0, "{counts}");
    assert!(known.iter().all(|count| *count > 1000) && during > TURNS, "{counts}");
    assert_eq!(installation.reloads().len(), TURNS);
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}
