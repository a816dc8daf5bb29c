use fieldseal_policy::Permit;

fn main() {
    let _ = Permit::new((), "rule".into(), 1);
}
