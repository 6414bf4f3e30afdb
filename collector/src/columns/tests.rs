use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use event::{Attempt, AttemptError, Draft};

use super::*;

/// With one try, of which other columns do not say how it was connected.
fn draft() -> Draft {
    let mut draft = Draft::new();
    draft.reset(5);
    draft.head.request_id = [7; 16];
    draft.head.client_ip = event::ip_bytes(std::net::IpAddr::from([10, 0, 0, 1]));
    draft.head.status = 200;
    draft.head.duration_us = 900;
    draft.head.cache_status = CacheStatus::Hit as u8;
    draft.text(Text::Service, b"billing");
    draft.text(Text::Route, b"a-route-of-the-service-billing");
    draft.text(Text::Consumer, b"consumer-number-1");
    draft.text(Text::Method, b"GET");
    draft.text(Text::Host, b"api.example.com");
    draft.text(Text::Path, b"/billing/invoices/17");
    draft.text(Text::UserAgent, b"Mozilla/5.0 (X11; Linux x86_64)");
    draft.attempt(&Attempt {
        addr: b"10.0.0.2:80",
        status: 200,
        error: AttemptError::None,
        start_us: 1,
        duration_us: 2,
        reused: true,
        span_id: [1; 8],
    });
    draft.extra(b"key", b"value");
    draft
}

#[test]
fn every_column_of_the_schema_is_filled_and_absent_values_are_null() {
    let mut rows = Rows::new();
    let full = draft();
    let mut empty = Draft::new();
    empty.reset(6);
    for _ in 0..2 {
        for (sequence, draft) in [(1, &full), (2, &empty)] {
            rows.append(&RequestEvent::of_draft("node", 3, sequence, draft));
        }
        let packed = rows.finish().unwrap();
        assert!(packed.num_columns() < event::columns::COLUMNS.len(), "no column without a value");
        let batch = event::hot::unpack(&packed, None).unwrap();
        assert_eq!(batch.schema(), event::columns::schema());
        assert_eq!((batch.num_rows(), rows.len()), (2, 0));
        for column in batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        assert_eq!(batch["time"].as_primitive::<TimestampMicrosecondType>().values(), &[5, 6]);
        assert_eq!(batch["sequence"].as_primitive::<UInt64Type>().values(), &[1, 2]);
        assert_eq!(batch["client_ip"].as_string_view().value(0), "10.0.0.1");
        assert_eq!(batch["cache_status"].as_string_view().value(0), "hit");
        assert_eq!(batch["role"].as_string_view().value(1), "gateway");
        assert_eq!(batch["route"].as_string_view().value(0), "a-route-of-the-service-billing");
        assert_eq!(batch["attempts"].as_list::<i32>().value_length(0), 1);
        assert_eq!(batch["attempts"].as_list::<i32>().value_length(1), 0);
        let tries = batch["attempts"].as_list::<i32>().values().clone();
        let addr = Arc::clone(tries.as_struct().column_by_name("addr").unwrap());
        assert_eq!(addr.as_string_view().value(0), "10.0.0.2:80");
        assert_eq!(batch["extra"].as_map().value_length(0), 1);
        for name in [
            "request_id",
            "client_ip",
            "cache_status",
            "route",
            "status",
            "upstream_us",
            "limit_remaining",
            "workspace",
        ] {
            assert!(batch[name].is_null(1), "{name}");
        }
    }
}

#[test]
fn rows_without_tries_and_pairs_have_empty_lists() {
    let mut rows = Rows::new();
    rows.append(&RequestEvent::of_draft("node", 3, 1, &Draft::new()));
    let batch = event::hot::unpack(&rows.finish().unwrap(), None).unwrap();
    assert_eq!(batch["attempts"].as_list::<i32>().value_length(0), 0);
    assert_eq!(batch["extra"].as_map().value_length(0), 0);
    assert_eq!(batch["attempts"].null_count() + batch["extra"].null_count(), 0);
}

#[test]
fn a_try_that_other_columns_tell_of_is_left_out_and_put_back() {
    let told = |number: u32| {
        let mut draft = Draft::new();
        let head = &mut draft.head;
        (head.upstream_status, head.upstream_us, head.first_byte_us) = (200, 40 + number, 50 + number);
        head.upstream_span_id = [number as u8 + 1; 8];
        draft.text(Text::UpstreamAddr, b"10.0.0.2:80");
        draft
    };
    let only = |number: u32| Attempt {
        addr: b"10.0.0.2:80",
        status: 200,
        error: AttemptError::None,
        start_us: 10,
        duration_us: 40 + number,
        reused: true,
        span_id: [number as u8 + 1; 8],
    };
    let with = |number: u32, tries: &[Attempt<'_>]| {
        let mut draft = told(number);
        tries.iter().for_each(|attempt| draft.attempt(attempt));
        draft
    };
    let mut connected = with(3, &[Attempt { reused: false, ..only(3) }]);
    connected.head.connect_us = 7;
    let failed = Attempt { error: AttemptError::Reset, status: ABSENT_U16, ..only(5) };
    let kept = [
        with(5, &[failed, only(5)]),
        with(6, &[Attempt { error: AttemptError::ReadTimeout, ..only(6) }]),
        with(7, &[Attempt { reused: false, ..only(7) }]),
        with(8, &[Attempt { start_us: 11, ..only(8) }]),
        with(9, &[Attempt { addr: b"10.0.0.3:80", ..only(9) }]),
        with(10, &[Attempt { status: 201, ..only(10) }]),
        with(11, &[Attempt { span_id: [0; 8], ..only(11) }]),
    ];
    let left_out = [with(0, &[only(0)]), connected, with(4, &[only(4)])];
    let none = [Draft::new()];
    for drafts in [
        left_out.iter().collect::<Vec<_>>(),
        none.iter().collect(),
        kept.iter().chain(&left_out).chain(&none).chain(&left_out).chain(&kept).collect(),
    ] {
        let mut rows = Rows::new();
        let events: Vec<_> = drafts.iter().map(|draft| RequestEvent::of_draft("node", 3, 1, draft)).collect();
        events.iter().for_each(|event| rows.append(event));
        let batch = event::hot::unpack(&rows.finish().unwrap(), None).unwrap();
        let stored = batch["attempts"].as_list::<i32>();
        let all = event::tries::restore(stored, &event::tries::TELLING.map(|name| Arc::clone(&batch[name])));
        let all = all.unwrap();
        all.to_data().validate_full().unwrap();
        for (row, event) in events.iter().enumerate() {
            let tries: Vec<_> = event.attempts().collect();
            let is_told = left_out.iter().any(|draft| std::ptr::eq(drafts[row], draft));
            assert_eq!(stored.value_length(row) as usize, if is_told { 0 } else { tries.len() }, "row {row}");
            let found = all.value(row);
            let found = found.as_struct();
            assert_eq!(found.len(), tries.len(), "row {row}");
            for (place, attempt) in tries.iter().enumerate() {
                let number = |name: &str| found[name].as_primitive::<UInt32Type>().value(place);
                let status = found["status"].as_primitive::<UInt16Type>();
                let (error, span) =
                    (found["error"].as_string_view(), found["span_id"].as_fixed_size_binary());
                assert_eq!(found["addr"].as_string_view().value(place).as_bytes(), attempt.addr);
                assert_eq!(
                    status.is_valid(place).then(|| status.value(place)),
                    (attempt.status != ABSENT_U16).then_some(attempt.status)
                );
                assert_eq!(
                    error.is_valid(place).then(|| error.value(place)),
                    (attempt.error != AttemptError::None).then_some(attempt.error.as_str())
                );
                assert_eq!(
                    (number("start_us"), number("duration_us")),
                    (attempt.start_us, attempt.duration_us)
                );
                assert_eq!(found["connection_reused"].as_boolean().value(place), attempt.reused);
                assert_eq!(
                    span.is_valid(place).then(|| span.value(place)),
                    (attempt.span_id != [0; 8]).then_some(&attempt.span_id[..])
                );
            }
        }
    }
}

/// Prints what a row costs; run with `--nocapture` in a release build.
#[test]
fn a_row_costs_this_much() {
    const BATCH: usize = 8_192;
    let draft = draft();
    let mut rows = Rows::new();
    let mut total = 0;
    let started = Instant::now();
    for _ in 0..20 {
        for sequence in 0..BATCH as u64 {
            rows.append(&RequestEvent::of_draft("node", 3, sequence, &draft));
        }
        total += rows.finish().unwrap().num_rows();
    }
    println!("event to columns: {} ns per event", started.elapsed().as_nanos() / total as u128);
    assert_eq!(total, 20 * BATCH);
}
