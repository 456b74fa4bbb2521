//! Shares of traffic by link bandwidth (draft-ietf-idr-link-bandwidth).

/// The largest weight: what the kernel and the forwarding tables take.
const MAX_WEIGHT: u64 = 255;

/// Weights in proportion to bandwidths in bytes per second, 1 to 255 and as small as they can be; all 1 unless every
/// bandwidth is known (greater than 0).
pub(super) fn weights(bandwidths: &mut dyn ExactSizeIterator<Item = f32>) -> Vec<u8> {
    let known: Vec<u64> = bandwidths.map(whole).collect();
    let Some(&most) = known.iter().max().filter(|_| !known.contains(&0)) else {
        return vec![1; known.len()];
    };
    let divisor = known.iter().copied().fold(0, gcd);
    let scaled = |bandwidth: u64| {
        if most / divisor <= MAX_WEIGHT {
            bandwidth / divisor
        } else {
            // To the nearest, at least 1: who tells a little gets a little.
            let share = u128::from(bandwidth) * u128::from(MAX_WEIGHT) + u128::from(most) / 2;
            u64::try_from(share / u128::from(most))
                .unwrap_or(MAX_WEIGHT)
                .max(1)
        }
    };
    let weights: Vec<u64> = known.into_iter().map(scaled).collect();
    let divisor = weights.iter().copied().fold(0, gcd);
    weights
        .iter()
        .map(|weight| u8::try_from(weight / divisor).unwrap_or(u8::MAX))
        .collect()
}

/// Bytes per second as a whole number; less than one counts as one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and what is not above 0 was sorted out"
)]
fn whole(bandwidth: f32) -> u64 {
    if bandwidth > 0.0 {
        (bandwidth as u64).max(1)
    } else {
        0
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::weights;

    fn of(bandwidths: &[f32]) -> Vec<u8> {
        weights(&mut bandwidths.iter().copied())
    }

    #[test]
    fn weights_are_the_smallest_whole_numbers_in_proportion() {
        assert_eq!(of(&[1.25e9, 1.25e8]), [10, 1]);
        assert_eq!(of(&[1.25e9, 3.125e9, 1.25e9]), [2, 5, 2]);
        assert_eq!(of(&[5e8, 5e8]), [1, 1]);
    }

    #[test]
    fn one_that_tells_nothing_makes_all_equal() {
        assert_eq!(of(&[1.25e9, 0.0, 1.25e8]), [1, 1, 1]);
        assert_eq!(of(&[0.0]), [1]);
        assert_eq!(of(&[]), Vec::<u8>::new());
    }

    #[test]
    fn weights_stay_between_1_and_255_whatever_is_told() {
        assert_eq!(of(&[f32::MAX, f32::MIN_POSITIVE]), [255, 1]);
        assert_eq!(of(&[1e9, 1.0]), [255, 1]);
        assert_eq!(of(&[0.25, 0.5]), [1, 1], "less than one byte a second");
        let odd = of(&[1_000_003.0, 999_983.0, 500_009.0]);
        assert!(odd.iter().all(|&weight| weight >= 1) && odd[0] >= odd[1] && odd[1] > odd[2]);
    }
}
