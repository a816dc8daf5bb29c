use fieldseal_policy::Denial;

fn main() {
    let _ = Denial(std::sync::Arc::new(()), ());
}
