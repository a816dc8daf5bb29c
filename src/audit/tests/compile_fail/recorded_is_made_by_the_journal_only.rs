use fieldseal_audit::{Receipt, Recorded};

fn forge(receipt: Receipt) {
    let _ = Recorded { value: vec![1_u8], receipt };
}

fn main() {}
