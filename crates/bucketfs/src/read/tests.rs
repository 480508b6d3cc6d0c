//! Bytes of one version, from a store in memory under paused time.

use proptest::prelude::*;

use super::*;
use crate::store::memory::{Asked, Memory};

fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect::<Vec<_>>().into()
}

async fn content(store: &Memory, body: Bytes, budget: u64) -> Arc<Content> {
    store.put("k", body.clone(), &[]);
    let version = store.head("k").await.expect("just written").version;
    store.take_asked();
    let source = Source {
        store: Arc::new(store.clone()),
        cache: Arc::new(BlockCache::new(budget)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    Arc::new(Content::new(5, "k".into(), version, body.len() as u64, source))
}

#[tokio::test(start_paused = true)]
async fn readers_of_the_same_block_share_a_request() {
    let store = Memory::default();
    store.set_latency(Duration::from_millis(20));
    let body = pattern(1000);
    let content = content(&store, body.clone(), 1 << 20).await;
    let (one, two) = futures::join!(content.read(0, 10), content.read(500, 1000));
    assert_eq!(one.expect("read"), body.slice(0..10));
    assert_eq!(two.expect("read"), body.slice(500..1000));
    assert_eq!(store.take_asked(), [Asked::Fetch("k".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_sequential_reader_waits_less_and_less() {
    let store = Memory::default();
    store.set_latency(Duration::from_millis(20));
    let body = pattern(16 << 20);
    let content = content(&store, body.clone(), 64 << 20).await;
    let began = Instant::now();
    for offset in (0..body.len()).step_by(BLOCK as usize) {
        let bytes = content.read(offset as u64, BLOCK as usize).await.expect("read");
        assert_eq!(bytes, body.slice(offset..offset + BLOCK as usize));
    }
    assert!(began.elapsed() <= Duration::from_millis(20 * 12), "{:?}", began.elapsed());
    assert!(store.take_asked().len() <= 24);
}

#[tokio::test(start_paused = true)]
async fn a_jumping_reader_fetches_only_what_it_reads() {
    let store = Memory::default();
    let content = content(&store, pattern(64 << 20), 64 << 20).await;
    for offset in [50 << 20, 3 << 20, 30 << 20] {
        content.read(offset, 1000).await.expect("read");
    }
    assert_eq!(store.take_asked().len(), 3);
    assert_eq!(content.source.cache.counts().held_bytes, 3 * BLOCK);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_object_is_never_mixed_in() {
    let store = Memory::default();
    let content = content(&store, pattern(1 << 20), 1 << 20).await;
    content.read(0, 10).await.expect("read");
    store.put("k", vec![0; 1 << 20], &[]);
    let error = content.read(900_000, 10).await.expect_err("replaced");
    assert!(matches!(error, FsError::Store(StoreError::Changed { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_made_to_vanish_is_stale_not_absent() {
    let store = Memory::default();
    let content = content(&store, pattern(1000), 1 << 20).await;
    store.delete("k");
    assert_eq!(content.read(0, 10).await.expect_err("gone").errno(), libc::ESTALE);
}

#[tokio::test(start_paused = true)]
async fn a_cache_too_small_for_one_block_still_reads_right() {
    let store = Memory::default();
    let body = pattern(300_000);
    let content = content(&store, body.clone(), 1000).await;
    assert_eq!(content.read(100_000, 150_000).await.expect("read"), body.slice(100_000..250_000));
}

#[tokio::test(start_paused = true)]
async fn reads_at_and_behind_the_end_are_short() {
    let store = Memory::default();
    let content = content(&store, pattern(10), 1 << 20).await;
    assert_eq!(content.read(8, 100).await.expect("read").len(), 2);
    assert_eq!(content.read(10, 100).await.expect("read").len(), 0);
    assert_eq!(content.read(u64::MAX, usize::MAX).await.expect("read").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stalls_is_an_error_within_the_deadline() {
    let store = Memory::default();
    let content = content(&store, pattern(10), 1 << 20).await;
    store.set_latency(Duration::from_secs(1_000_000));
    let began = Instant::now();
    assert_eq!(content.read(0, 10).await.expect_err("silence").errno(), libc::EIO);
    assert!(began.elapsed() <= READ_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_came_with_the_headers_is_used() {
    let store = Memory::default();
    let body = pattern(1000);
    let content = content(&store, body.clone(), 1 << 20).await;
    content.begin(0..1000, futures::stream::iter([Ok(body.clone())]).boxed());
    assert_eq!(content.read(0, 1000).await.expect("read"), body);
    assert_eq!(store.take_asked(), []);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_fetched_again_from_there() {
    let store = Memory::default();
    let body = pattern(1000);
    let content = content(&store, body.clone(), 1 << 20).await;
    let broken = StoreError::Truncated { key: "k".into(), found: 10, expected: 1000 };
    content.begin(0..1000, futures::stream::iter([Ok(body.slice(0..10)), Err(broken)]).boxed());
    assert_eq!(content.read(0, 1000).await.expect("read"), body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_reads_returns_the_objects_bytes(
        size in 0usize..2_000_000,
        budget in prop_oneof![Just(1000u64), Just(400_000), Just(4_000_000)],
        reads in prop::collection::vec((0u64..2_100_000, 0usize..600_000), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let store = Memory::default();
            let body = pattern(size);
            let content = content(&store, body.clone(), budget).await;
            for (offset, length) in reads {
                let from = (offset as usize).min(size);
                let to = (from + length).min(size);
                let expected = if (offset as usize) < size { body.slice(from..to) } else { Bytes::new() };
                let bytes = content.read(offset, length).await.expect("the store answers");
                assert_eq!(bytes, expected);
                assert!(content.source.cache.counts().held_bytes <= budget);
            }
        });
    }

    #[test]
    fn read_ahead_never_goes_back_and_never_beyond_its_limit(
        steps in prop::collection::vec((any::<u32>(), 1u64..16), 1..100),
        limit in 0u64..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let _guard = runtime.as_ref().expect("a runtime").enter();
        let mut state = State::default();
        for (start, count) in steps {
            let blocks = u64::from(start)..u64::from(start) + count;
            let end = state.read_ahead(&blocks, limit);
            prop_assert!(end >= blocks.end);
            prop_assert!(end <= blocks.end + limit.max(1) + 2 * (16 + DISORDER));
            prop_assert!(state.streams.len() <= STREAMS);
        }
    }
}
