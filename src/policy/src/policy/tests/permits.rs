//! What a permit covers, and what it does not.

use fieldseal_model::ActionKind;

use super::*;

fn all() -> Policy {
    rules("@id(\"all\") permit (principal, action, resource);")
}

fn granted(wish: &Wish) -> Permit {
    wish.decided_by(&all()).unwrap()
}

#[test]
fn a_permit_for_a_field_covers_no_other() {
    let permit = granted(&Wish::new("dns:a", Action::Decrypt));
    let good = field("customer-pii", "customers", "email");
    let default = Partition::default();
    assert!(!permit.covers(Action::BatchDecrypt, &good, &default));
    assert!(!permit.covers(Action::Encrypt, &good, &default));
    assert!(!permit.covers(Action::Decrypt, &field("other", "customers", "email"), &default));
    assert!(!permit.covers(Action::Decrypt, &field("customer-pii", "users", "email"), &default));
    assert!(!permit.covers(Action::Decrypt, &field("customer-pii", "customers", "iban"), &default));
    assert!(!permit.covers(Action::Decrypt, &good, &partition("tenant-1")));
    assert!(permit.covers(Action::Decrypt, &good, &default));
}

#[test]
fn a_permit_for_named_partitions_covers_all_of_them_and_not_the_default() {
    let wish = Wish::new("dns:a", Action::Encrypt).with(|w| w.named_partition = true);
    let permit = granted(&wish);
    let field = field("customer-pii", "customers", "email");
    assert!(!permit.covers(Action::Encrypt, &field, &Partition::default()));
    assert!(permit.covers(Action::Encrypt, &field, &partition("tenant-1")));
    assert!(permit.covers(Action::Encrypt, &field, &partition("tenant-2")));
}

#[test]
fn the_kind_of_an_action_takes_its_place_and_nothing_else() {
    let field = field("customer-pii", "customers", "email");
    let default = Partition::default();
    for action in [Action::Decrypt, Action::BatchDecrypt] {
        let permit = granted(&Wish::new("dns:a", action));
        assert!(!permit.covers_kind(ActionKind::Encrypt, &field, &default));
        assert!(!permit.covers_kind(ActionKind::Read, &field, &default));
        assert!(!permit.covers_kind(ActionKind::Decrypt, &field, &partition("x")));
        assert!(permit.covers_kind(ActionKind::Decrypt, &field, &default));
    }
}

#[test]
fn a_permit_for_a_key_is_none_for_a_column_and_the_other_way_round() {
    let key = KeyName::parse("customer-pii").unwrap();
    let other = KeyName::parse("customer-pii2").unwrap();
    let email = field("customer-pii", "customers", "email");
    let rotate = granted(&Wish::new("dns:a", Action::RotateKey));
    assert!(!rotate.covers_key(Action::CreateKey, &key));
    assert!(!rotate.covers_key(Action::RotateKey, &other));
    assert!(!rotate.covers(Action::RotateKey, &email, &Partition::default()));
    assert!(!rotate.covers_kind(ActionKind::Change, &email, &Partition::default()));
    assert!(rotate.covers_key(Action::RotateKey, &key));
    let shred =
        granted(&Wish::new("dns:a", Action::ShredPartition).with(|w| w.named_partition = true));
    let (named, default) = (partition("ada"), Partition::default());
    assert!(shred.covers_partition(Action::ShredPartition, &key, &named));
    assert!(!shred.covers_partition(Action::RestorePartition, &key, &named));
    assert!(!shred.covers_partition(Action::ShredPartition, &other, &named));
    assert!(!shred.covers_partition(Action::ShredPartition, &key, &default));
    let decrypt = granted(&Wish::new("dns:a", Action::Decrypt));
    assert!(!decrypt.covers_key(Action::Decrypt, &key));
    let status = granted(&Wish::new("dns:a", Action::GetStatus));
    assert!(!status.covers_key(Action::GetStatus, &key));
    assert!(!status.covers(Action::GetStatus, &email, &Partition::default()));
}

#[test]
fn a_decision_says_what_was_asked() {
    let wish = Wish::new("dns:a", Action::Decrypt).with(|w| w.named_partition = true);
    let none = rules("@id(\"x\") permit (principal, action == Action::\"GetKey\", resource);");
    let (all, denial) = (all(), wish.decided_by(&none).unwrap_err());
    let permit = wish.decided_by(&all).unwrap();
    macro_rules! assert_asked {
        ($proof:expr, $generation:expr) => {
            assert_eq!($proof.principal().as_str(), "dns:a");
            assert_eq!($proof.action(), Action::Decrypt);
            assert_eq!($proof.key().map(KeyName::as_str), Some("customer-pii"));
            assert_eq!($proof.table().map(Table::as_str), Some("customers"));
            assert_eq!($proof.column().map(Column::as_str), Some("email"));
            assert_eq!($proof.partition_class(), PartitionClass::Named);
            assert_eq!($proof.generation(), $generation);
        };
    }
    assert_asked!(permit, all.generation());
    assert_asked!(denial, none.generation());
    assert_ne!(all.generation(), none.generation());
}
