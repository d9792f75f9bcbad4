//! What offset is kept: a lane between two stores, dead letters and a group that fail in every way, on a clock that stands still.
//!
//! There is no tracker apart from the lane: one batch is written at a time, its end is what may be kept once all of it is settled, and sinks'
//! watermarks and the group follow that. So the lane itself runs here, with every IO replaced. An input is the settings, then steps.

#[path = "../../tests/fixtures/component.rs"]
mod component;
mod ledger;
mod store;
mod world;

use std::time::Duration;

use streamsync::lane::Order;

use self::ledger::{Ending, Ledger, Row};
use self::world::{Loss, World};
use crate::input::Input;

const MAX_STEPS: usize = 64;

pub(crate) fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(&mut Input::new(data)));
}

async fn play(input: &mut Input<'_>) {
    let mut world = World::new(input).await;
    let mut ordered = None;
    for _ in 0..MAX_STEPS {
        if input.is_empty() || ordered.is_some() {
            break;
        }
        ordered = step(&mut world, input).await;
    }
    // One that abandons its partition waits for nobody to be well again.
    if ordered != Some(Order::Abandon) {
        world.heal();
    }
    let ending = match ordered {
        Some(order) => {
            world.order(order);
            if order == Order::Abandon { Ending::Abandoned } else { Ending::Drained }
        }
        None => {
            world.close().await;
            Ending::Finished
        }
    };
    let end = world.end().await;
    let mut ledger = Ledger::new(world.max_records, world.begin);
    for event in world.journal() {
        ledger.take(event);
    }
    ledger.close(ending, &end, world.settled());
}

/// Returns an order that ends the lane.
async fn step(world: &mut World, input: &mut Input<'_>) -> Option<Order> {
    match input.byte() & 15 {
        0..=3 => {
            let (rows, gap) = (1 + input.below(4), input.below(3) as i64);
            let rows: Vec<(Row, i64)> = (0..rows).map(|_| row(input)).collect();
            world.hand_over(&rows, gap);
        }
        4 => world.sink(input.byte()).hold(),
        5 => world.sink(input.byte()).change(|mood| mood.is_away = !mood.is_away),
        6 => {
            let (sink, fates) = (input.byte(), input.byte());
            world.sink(sink).change(|mood| mood.fates = fates);
        }
        7 => {
            let (sink, count) = (input.byte(), input.byte() & 3);
            world.sink(sink).change(|mood| mood.unheard_watermarks = count);
        }
        8 => {
            let (sink, count) = (input.byte(), input.byte() & 3);
            world.sink(sink).change(|mood| mood.untaken_watermarks = count);
        }
        9 => world.group.away(input.byte() & 3),
        10 => world.group.unheard(input.byte() & 3),
        11 => world.letters.away(input.byte() & 3),
        12 | 13 => pass(input.byte()).await,
        14 => {
            let (kind, sink) = (input.byte(), input.byte());
            if !world.has_trouble() {
                trouble(world, kind, sink).await;
            }
        }
        _ => match input.byte() & 7 {
            0 => return Some(Order::Abandon),
            1 => return Some(Order::Drain),
            choice => pass(choice).await,
        },
    }
    None
}

/// What the lane must end by, sooner or later.
async fn trouble(world: &World, kind: u8, sink: u8) {
    match kind % 5 {
        0 => world.lose(sink, Loss::Emptied).await,
        1 => world.lose(sink, Loss::AnotherServer).await,
        2 => world.lose(sink, Loss::AnotherWorker).await,
        3 => world.sink(sink).change(|mood| mood.is_unfit = true),
        _ => world.group.lose(),
    }
}

/// A row of one of four keys, and the number beside it, by which the guest chooses the stores.
fn row(input: &mut Input<'_>) -> (Row, i64) {
    let byte = input.byte();
    let id = i64::from(byte & 3);
    let row = match (byte >> 2) & 7 {
        0 => Row::Delete(id),
        1 => Row::Broken,
        2 => Row::Null(id),
        _ => Row::Put(id),
    };
    (row, i64::from(byte >> 5))
}

/// Lets the lane go on, for some of its turns or some of its time.
async fn pass(choice: u8) {
    let wait = match choice & 7 {
        turns @ 0..=3 => {
            for _ in 0..turns * 4 {
                tokio::task::yield_now().await;
            }
            return;
        }
        4 => Duration::from_millis(5),
        5 => Duration::from_millis(400),
        6 => Duration::from_secs(3),
        _ => Duration::from_secs(70),
    };
    tokio::time::sleep(wait).await;
}
