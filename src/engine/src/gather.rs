//! Looking up the data keys of a batch: each once, and many at the same time.

use std::collections::HashMap;

use fieldseal_model::KeyId;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// Look-ups at the same time. One that is not in memory waits for a read of the store.
const AT_ONCE: usize = 64;

/// What was found for each of the ids.
pub(crate) async fn gather<T, F>(
    ids: impl Iterator<Item = KeyId>,
    load: impl Fn(KeyId) -> F,
) -> HashMap<KeyId, T>
where
    F: Future<Output = T>,
{
    let mut wanted: Vec<KeyId> = Vec::new();
    for id in ids {
        // Neighbours mostly have the same data key.
        if wanted.last() != Some(&id) {
            wanted.push(id);
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    if let [id] = wanted.as_slice() {
        return HashMap::from([(*id, load(*id).await)]);
    }
    let mut found = HashMap::with_capacity(wanted.len());
    let mut waiting = wanted.into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        let free = AT_ONCE - running.len();
        for id in waiting.by_ref().take(free) {
            let loading = load(id);
            running.push(async move { (id, loading.await) });
        }
        match running.next().await {
            Some((id, result)) => found.insert(id, result),
            None => return found,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn each_is_loaded_once_and_many_at_the_same_time_but_not_more() {
        let id = |n: u64| KeyId::new(n.to_be_bytes());
        let (running, most, loads) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let load = |id: KeyId| {
            let (running, most, loads) = (&running, &most, &loads);
            async move {
                running.set(running.get() + 1);
                loads.set(loads.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::task::yield_now().await;
                running.set(running.get() - 1);
                id
            }
        };
        let ids = (0..200).chain(100..300).chain([299, 299]).map(id);
        let found = gather(ids, load).await;
        assert_eq!((most.get(), loads.get(), found.len()), (AT_ONCE, 300, 300));
        assert!(found.iter().all(|(id, value)| id == value));
        assert!(gather([].into_iter(), load).await.is_empty());
        assert_eq!(gather([id(7), id(7)].into_iter(), load).await.len(), 1);
    }
}
