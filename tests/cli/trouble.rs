//! What probes and callers see, in good times and when the audit log is gone.

use fieldseal_client::Failure;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::installation::{Installation, place};
use crate::process::{ended, refused, text};

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// What `grpc.health.v1.Health/Check` says of the process as a whole.
pub(crate) fn health(installation: &Installation) -> String {
    block_on(async {
        let client = installation.client("app").await;
        let request = HealthCheckRequest { service: String::new() };
        let answer = HealthClient::new(client.channel()).check(request).await.unwrap();
        answer.into_inner().status().as_str_name().to_owned()
    })
}

#[test]
fn nobody_lists_the_methods_unless_reflection_is_switched_on() {
    let mut installation = Installation::served();
    let ask = |installation: &Installation| {
        block_on(async {
            let client = installation.client("app").await;
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut reflection = ServerReflectionClient::new(client.channel());
            let asked = reflection.server_reflection_info(tokio_stream::once(request)).await;
            asked.map(drop).map_err(|status| Failure::from(&status).reason().to_owned())
        })
    };
    assert_eq!(ask(&installation), Err("METHOD_UNKNOWN".to_owned()));
    assert_eq!(installation.stop(), 0);
    let config = std::fs::read_to_string(installation.config()).unwrap();
    let on = config.replace("\nreflection = false\n", "\nreflection = true\n");
    assert_ne!(config, on);
    std::fs::write(installation.config(), on).unwrap();
    installation.serve();
    assert_eq!(ask(&installation), Ok(()));
}

#[test]
fn without_its_log_it_decrypts_nothing_and_comes_back_with_it() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &["--row", "1"]), b"ada@example.com");
    let decrypt = place("decrypt", &["--row", "1"]);
    assert_eq!(health(&installation), "SERVING");

    let segment = installation.log().join("segment-00000000000000000000.log");
    let away = installation.log().join("away");
    std::fs::rename(&segment, &away).unwrap();
    let output = installation.run("app", &decrypt, &sealed);
    assert_eq!(ended(&output), refused(5, "AUDIT_UNAVAILABLE"));
    assert!(output.stdout.is_empty());
    let (running, mut lines) = installation.sidecar.take().unwrap();
    lines.until(|| (health(&installation) == "NOT_SERVING").then_some(()));
    let status = installation.run("ops", &["status"], b"");
    assert_eq!(ended(&status), refused(5, "NOT_READY"));

    std::fs::rename(&away, &segment).unwrap();
    lines.until(|| (health(&installation) == "SERVING").then_some(()));
    installation.sidecar = Some((running, lines));
    assert_eq!(installation.ok("app", &decrypt, &sealed), b"ada@example.com");
    assert!(installation.run("ops", &["status"], b"").status.success());
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}

#[test]
fn a_certificate_of_another_installation_is_refused_as_one() {
    let (installation, other) = (Installation::served(), Installation::new());
    let mut command = installation.command("app", &["key", "list"]);
    let stranger = other.settings("app");
    command.env("FIELDSEAL_CLIENT_CERT", stranger.certificate);
    command.env("FIELDSEAL_CLIENT_KEY", stranger.private_key);
    // The alert may be lost where the connection is reset before it is read.
    let heard = (0..20).map(|_| command.output().unwrap()).find(|output| {
        let lost = ended(output) == refused(5, "CONNECTION_LOST");
        assert!(lost || ended(output) == refused(4, "CERTIFICATE_REFUSED"), "{output:?}");
        !lost
    });
    // Not `DecryptError`: the two authorities have different names.
    let said = text(&heard.expect("the alert is heard").stderr);
    assert!(said.contains("UnknownCA"), "{said}");
}
