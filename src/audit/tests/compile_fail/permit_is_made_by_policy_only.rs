use fieldseal_policy::Permit;

fn main() {
    let _ = Permit(std::sync::Arc::new(()), ());
}
