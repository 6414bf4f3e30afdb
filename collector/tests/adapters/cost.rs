//! What showing an event to the adapters costs the intake thread. Not part of a usual run, and no assertion on
//! time: `cargo test --release -p tollhouse-collector --test adapters -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use collector::adapters::{MetricsConfig, OtlpConfig};
use event::{Draft, RequestEvent, Text};

use crate::receiver::{Act, Receiver};
use crate::support::{OPEN_METRICS, draft, get, metrics_config, observe, scrape, start};

#[test]
#[ignore = "prints a measurement"]
fn cost_of_observing() {
    let receiver = Receiver::grpc(&[Act::Take]);
    for (name, label_sets, sampled_of) in [
        ("metrics only, 1 label set", 1, usize::MAX),
        ("metrics only, 200 label sets", 200, usize::MAX),
        ("1 % sampled, 200 label sets", 200, 100),
        ("100 % sampled, 200 label sets", 200, 1),
    ] {
        let otlp = OtlpConfig {
            endpoint: Some(format!("http://{}", receiver.address)),
            queue_spans_max: 100_000_000,
            ..OtlpConfig::default()
        };
        let (mut adapters, _) = start(&metrics_config(), &otlp);
        let drafts: Vec<Draft> = (0..1_000)
            .map(|number| {
                let mut draft = draft(
                    b"orders",
                    format!("route-{}", number % label_sets % 20).as_bytes(),
                    format!("consumer-{}", number * 7 % label_sets).as_bytes(),
                );
                draft.text(Text::Path, b"/orders/1234");
                draft.text(Text::Host, b"api.example");
                draft.text(Text::UserAgent, b"curl/8.0");
                draft.head.sampled = u8::from(number % sampled_of == 0);
                (draft.head.trace_id, draft.head.span_id) = ([1; 16], [1; 8]);
                draft
            })
            .collect();
        let events: Vec<_> =
            (0u64..).zip(&drafts).map(|(n, draft)| RequestEvent::of_draft("node-1", 0, n, draft)).collect();
        let rounds = if sampled_of == 1 { 100 } else { 1_000 };
        let began = Instant::now();
        for _ in 0..rounds {
            events.iter().for_each(|event| adapters.observe(event));
            adapters.flush();
        }
        let nanos = began.elapsed().as_nanos() / (rounds * events.len()) as u128;
        println!("{name}: {nanos} ns per event, a flush per 1000 included");
        adapters.shutdown(Instant::now() + Duration::from_millis(10));
    }
}

#[test]
#[ignore = "prints a measurement"]
fn cost_of_scraping_many_series() {
    let config = MetricsConfig { series_max: 100_000, ..metrics_config() };
    let (mut adapters, address) = start(&config, &OtlpConfig::default());
    for number in 0..10_000 {
        observe(&mut adapters, &draft(b"s", b"r", format!("consumer-{number}").as_bytes()));
    }
    scrape(&mut adapters, address, OPEN_METRICS);
    let began = Instant::now();
    let page = get(address, "/metrics", OPEN_METRICS).body;
    println!("{} lines, {} bytes in {:?}", page.lines().count(), page.len(), began.elapsed());
}
