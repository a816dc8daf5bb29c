//! The Kubernetes manifests.

use std::path::{Path, PathBuf};

use fieldseal_server::Config;
use fieldseal_server::probes::Probe;
use serde_json::Value;

use super::{defaults, image, probes_port, read};

const SERVED: &str = "deploy/kubernetes/fieldseal.yaml";
const SIDECAR: &str = "deploy/kubernetes/sidecar.yaml";
const STATE: &str = "deploy/kubernetes/state.yaml";

fn documents(path: &str) -> Vec<Value> {
    let read = serde_saphyr::from_multiple(&read(path));
    let documents: Vec<Value> = read.unwrap_or_else(|e| panic!("{path}: {e}"));
    for document in &documents {
        for part in ["/apiVersion", "/kind", "/metadata/name"] {
            assert!(document.pointer(part).is_some_and(Value::is_string), "{path}: no {part}");
        }
    }
    documents
}

/// The one document of its kind.
#[track_caller]
fn only(path: &str, kind: &str) -> Value {
    let mut found: Vec<_> = documents(path).into_iter().filter(|d| d["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{path}: {kind}");
    found.remove(0)
}

/// What a manifest says of a pod.
fn pod(path: &str) -> Value {
    only(path, "StatefulSet")["spec"]["template"]["spec"].take()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

fn named<'a>(values: &'a [Value], name: &str) -> &'a Value {
    let found = values.iter().find(|value| value["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))
}

fn containers(pod: &Value) -> Vec<&Value> {
    list(pod, "initContainers").iter().chain(list(pod, "containers")).collect()
}

/// The container that runs the program.
fn fieldseal(pod: &Value) -> &Value {
    containers(pod).into_iter().find(|container| container["name"] == "fieldseal").unwrap()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// The configuration that a manifest's container reads, and where it finds it.
fn config(path: &str) -> (PathBuf, Config) {
    let pod = pod(path);
    let arguments = words(&fieldseal(&pod)["args"]).join(" ");
    let file = PathBuf::from(arguments.strip_prefix("serve --config ").unwrap());
    let map = only(path, "ConfigMap");
    let volume = named(list(&pod, "volumes"), "config");
    assert_eq!(volume["configMap"]["name"], map["metadata"]["name"]);
    let name = file.file_name().unwrap().to_str().unwrap();
    let text = map["data"][name].as_str().unwrap();
    let config = Config::parse(&file, text).unwrap_or_else(|e| panic!("{path}: {e}"));
    (file, config)
}

#[test]
fn one_process_has_the_store() {
    for path in [SERVED, SIDECAR] {
        let set = only(path, "StatefulSet");
        assert_eq!(set["spec"]["replicas"], 1, "{path}");
        let claim = only(STATE, "PersistentVolumeClaim");
        assert_eq!(claim["spec"]["accessModes"], serde_json::json!(["ReadWriteOncePod"]));
        let pod = pod(path);
        let volume = named(list(&pod, "volumes"), "state");
        assert_eq!(volume["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
        let (labels, selector) =
            (&set["spec"]["template"]["metadata"]["labels"], &set["spec"]["selector"]);
        assert_eq!(&selector["matchLabels"], labels, "{path}");
    }
}

#[test]
fn every_container_has_as_little_as_it_needs() {
    let shell = only(STATE, "Pod")["spec"].take();
    for (path, pod) in [(SERVED, pod(SERVED)), (SIDECAR, pod(SIDECAR)), (STATE, shell)] {
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{path}");
        for id in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(context[id], image::user(), "{path}: {id}");
        }
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{path}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{path}");
        // They would be FIELDSEAL_… variables that are no settings.
        assert_eq!(pod["enableServiceLinks"], false, "{path}");
        assert!(!containers(&pod).is_empty());
        for container in containers(&pod) {
            let (name, context) = (&container["name"], &container["securityContext"]);
            assert_eq!(context["allowPrivilegeEscalation"], false, "{path}: {name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{path}: {name}");
            let drop = &context["capabilities"]["drop"];
            assert_eq!(drop, &serde_json::json!(["ALL"]), "{path}: {name}");
            let (_, tag) = container["image"].as_str().unwrap().rsplit_once(':').unwrap();
            assert!(!tag.is_empty() && tag != "latest", "{path}: {name}");
        }
    }
}

#[test]
fn only_its_own_container_has_the_root_key_and_the_state() {
    for path in [SERVED, SIDECAR] {
        let pod = pod(path);
        for container in containers(&pod) {
            let mounts: Vec<_> = list(container, "volumeMounts")
                .iter()
                .map(|m| m["name"].as_str().unwrap())
                .collect();
            let own = container["name"] == "fieldseal";
            let copies = container["name"] == "root-key";
            assert_eq!(mounts.contains(&"state"), own, "{path}: {}", container["name"]);
            assert_eq!(mounts.contains(&"root-key"), own || copies, "{path}");
            assert_eq!(mounts.contains(&"root-key-secret"), copies, "{path}");
        }
        let key = named(list(&pod, "volumes"), "root-key");
        assert_eq!(key["emptyDir"]["medium"], "Memory", "{path}: no key on the node's disk");
    }
}

#[test]
fn every_path_of_the_configuration_is_mounted() {
    for path in [SERVED, SIDECAR] {
        let (file, config) = config(path);
        let pod = pod(path);
        let mounts = list(fieldseal(&pod), "volumeMounts");
        let mounted = |wanted: &Path| {
            let inside = |mount: &&Value| {
                wanted.starts_with(Path::new(mount["mountPath"].as_str().unwrap()))
            };
            let found = mounts.iter().find(inside);
            let found = found.unwrap_or_else(|| panic!("{path}: {} is nowhere", wanted.display()));
            (found["name"].as_str().unwrap().to_owned(), found["readOnly"] == true)
        };
        let fieldseal_server::config::RootSettings::File { file: key } = &config.root else {
            panic!("{path}: the root key is in a file");
        };
        for (wanted, volume) in [
            (&file, "config"),
            (&config.policy_directory, "policy"),
            (&config.tls.certificate, "tls"),
            (&config.tls.private_key, "tls"),
            (&config.tls.client_ca, "tls"),
            (key, "root-key"),
        ] {
            assert_eq!(mounted(wanted), (volume.to_owned(), true), "{path}");
        }
        assert_eq!(mounted(&config.state.directory), ("state".to_owned(), false), "{path}");
        let copy = named(list(&pod, "initContainers"), "root-key");
        assert!(words(&copy["command"])[2].ends_with(&format!(" {}", key.display())), "{path}");
    }
}

#[test]
fn the_ports_agree() {
    let (_, config) = config(SERVED);
    let port = config.server.listen.port();
    assert_eq!(port, defaults().server.listen.port());
    assert!(config.server.listen.ip().is_unspecified(), "callers are in other pods");
    let pod = pod(SERVED);
    let ports = list(fieldseal(&pod), "ports");
    assert_eq!(named(ports, "grpc")["containerPort"], port);
    let service = only(SERVED, "Service");
    let offered = named(list(&service["spec"], "ports"), "grpc");
    assert_eq!((&offered["port"], &offered["targetPort"]), (&port.into(), &"grpc".into()));
    let labels = &only(SERVED, "StatefulSet")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    let policy = only(SERVED, "NetworkPolicy");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let allowed = list(&policy["spec"], "ingress")
        .iter()
        .map(|rule| (list(rule, "from").len(), rule["ports"][0]["port"].as_u64().unwrap()));
    let allowed: Vec<_> = allowed.collect();
    assert_eq!(allowed, [(1, port.into()), (1, probes_port().into())]);
}

#[test]
fn the_sidecar_is_reached_from_its_own_pod_only_and_is_there_first() {
    let (_, config) = config(SIDECAR);
    assert!(config.server.listen.ip().is_loopback());
    let pod = pod(SIDECAR);
    let sidecar = named(list(&pod, "initContainers"), "fieldseal");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert!(sidecar["startupProbe"].is_object(), "the application waits for it");
    for container in list(&pod, "containers") {
        let endpoint = named(list(container, "env"), "FIELDSEAL_CLIENT_ENDPOINT");
        assert_eq!(endpoint["value"], format!("https://{}", config.server.listen));
        for variable in ["FIELDSEAL_CLIENT_CA", "FIELDSEAL_CLIENT_CERT", "FIELDSEAL_CLIENT_KEY"] {
            named(list(container, "env"), variable);
        }
    }
}

/// What each probe must ask. Trouble with disk or log is no reason to start the process anew.
const PROBES: [(&str, Probe, &str); 3] = [
    ("startupProbe", Probe::Readiness, "readiness"),
    ("readinessProbe", Probe::Readiness, "readiness"),
    ("livenessProbe", Probe::Liveness, "liveness"),
];

#[test]
fn kubelet_asks_what_the_second_listener_answers() {
    let pod = pod(SERVED);
    let container = fieldseal(&pod);
    let listen = &named(list(container, "env"), "FIELDSEAL_PROBES_LISTEN")["value"];
    let listen: std::net::SocketAddr = listen.as_str().unwrap().parse().unwrap();
    assert!(listen.ip().is_unspecified(), "kubelet asks the pod's address");
    assert_eq!(listen.port(), probes_port());
    assert_eq!(named(list(container, "ports"), "probes")["containerPort"], probes_port());
    for (probe, wanted, _) in PROBES {
        let (asked, path) = (&container[probe]["httpGet"], wanted.path());
        assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &"probes".into()), "{probe}");
    }
}

#[test]
fn the_binary_asks_a_second_listener_on_loopback() {
    let pod = pod(SIDECAR);
    let container = fieldseal(&pod);
    let (_, config) = config(SIDECAR);
    assert!(config.probes.listen.is_some_and(|address| address.ip().is_loopback()));
    assert_eq!(config.probes, defaults().probes, "that is where the command asks");
    assert!(list(container, "env").is_empty());
    for (probe, _, asked) in PROBES {
        let command = words(&container[probe]["exec"]["command"]);
        assert_eq!(command, [&image::program(), "health", asked], "{probe}");
        // The command itself waits for 5 seconds.
        assert!(container[probe]["timeoutSeconds"].as_u64().unwrap() > 5, "{probe}");
    }
}

#[test]
fn a_pod_has_time_to_stop_in_good_order() {
    for path in [SERVED, SIDECAR] {
        let (_, config) = config(path);
        let grace = pod(path)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > config.listener.drain.as_secs(), "{path}");
    }
}
