use fieldseal_audit::Receipt;

fn main() {
    let _ = Receipt::new("main".into(), 0, [0; 32], 1);
    let _ = Receipt { log: "main".into(), index: 0, leaf_hash: [0; 32], tree_size: 1 };
}
