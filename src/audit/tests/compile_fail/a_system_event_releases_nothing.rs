use fieldseal_audit::{Journal, SystemEvent, Withheld};

async fn release(journal: Journal) {
    let event = SystemEvent::stop(Default::default());
    let _ = journal.commit(event, Withheld::new(vec![1_u8], 1)).await;
}

fn main() {}
