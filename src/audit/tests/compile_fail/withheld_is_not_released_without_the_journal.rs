use fieldseal_audit::{Receipt, Withheld};

fn steal(receipt: Receipt) {
    let withheld = Withheld::new(vec![1_u8], 1);
    let _ = withheld.release(receipt);
}

fn main() {}
