//! The proofs cannot be forged: each forgery in `tests/compile_fail/` does not compile.

#[test]
fn forgeries_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
