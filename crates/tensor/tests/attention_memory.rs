//! Memory of attention grows with the number of positions, not with its square. Alone in its process: it empties the
//! pool and counts what is in it.

use maplet_tensor::{Attend, DType, Heads, Tensor, pool_idle_bytes, set_pool_limit};

/// The bytes that one forward and one backward pass over `t` positions take, all of which return to the pool.
fn taken(t: usize) -> usize {
    set_pool_limit(0);
    set_pool_limit(usize::MAX);
    {
        let x = Tensor::ones([1, 2, t, 8], DType::F32);
        let attend = Attend { causal: Some(0), dropout: 0.1, ..Attend::default() };
        let (y, sums) = Tensor::attention([&x; 3], Heads::Axis, &attend).unwrap();
        Tensor::attention_grad([&x; 3], Heads::Axis, &attend, [&y, &sums], &y, [true; 3]).unwrap();
    }
    pool_idle_bytes()
}

#[test]
fn memory_is_linear_in_the_number_of_positions() {
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let [small, large] = one_thread.install(|| [512, 2048].map(taken));
    // Size classes round up by at most a quarter.
    assert!(large < 5 * small, "{small} bytes, then {large}");
    let scores = 2 * 2048 * 2048 * DType::F32.bytes();
    assert!(large < scores / 16, "{large} bytes, all scores are {scores}");
}
