use fieldseal_audit::Withheld;

fn main() {
    let withheld = Withheld::new(vec![1_u8], 1);
    let _: &Vec<u8> = &*withheld;
}
