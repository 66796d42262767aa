//! Round numbers along an axis.

/// Where a number stands on an axis, and how it is written.
pub(super) type Tick = (f64, String);

/// Round numbers within a span; of a logarithmic axis, the span is that of the powers.
pub(super) fn ticks((low, high): (f64, f64), log: bool) -> Vec<Tick> {
    match log {
        true => decades(low, high).into_iter().map(|tick| (tick, power(tick))).collect(),
        false => {
            let step = step((high - low) / 6.0);
            let first = (low / step).ceil();
            let all = (0..12).map(|k| (first + f64::from(k)) * step).take_while(|tick| *tick <= high);
            all.map(|tick| (tick, plain(tick, step))).collect()
        }
    }
}

/// 1, 2 or 5 times a power of ten: the least that is not below `rough`.
fn step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough)
}

/// Powers of ten, every second or third if there are many, and 2 and 5 times them if there are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let every = ((high - low) / 7.0).ceil().max(1.0) as i64;
    let powers = (low.floor() as i64..=high.ceil() as i64).filter(|power| power.rem_euclid(every) == 0);
    let between: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all = powers.flat_map(|power| between.iter().map(move |m| power as f64 + m.log10()));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// With as many decimals as tell it from its neighbours.
fn plain(tick: f64, step: f64) -> String {
    let (size, fine) = (tick.abs().log10().floor(), step.log10().floor());
    match tick.abs() {
        nothing if nothing < step / 2.0 => "0".into(),
        extreme if !(1e-3..1e5).contains(&extreme) => format!("{tick:.*e}", (size - fine).clamp(0.0, 9.0) as usize),
        _ => format!("{tick:.*}", (-fine).clamp(0.0, 9.0) as usize),
    }
    .replace('-', "−")
}

fn power(tick: f64) -> String {
    match (-1e-9..5.0).contains(&tick) {
        true => format!("{}", 10f64.powf(tick).round()),
        false => {
            let power = (tick + 1e-9).floor();
            format!("{:.0}e{power:.0}", 10f64.powf(tick - power)).replace('-', "−")
        }
    }
}
