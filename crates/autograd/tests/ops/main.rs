//! One battery for every op: a case in one of the families below is checked for its derivatives (first and second
//! order, by finite differences), for belonging to the pass of any of its inputs, for recording nothing in inference,
//! and for refusing a loose parameter. An op that is in no family fails the last test.

use maplet_autograd::{DType, Error, Leaf, Param, Pass, Tensor, Var, Walk, checkpoint};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use table::Case;

mod table;

mod arithmetic;
mod unary;
mod activations;
mod softmax;
mod reductions;
mod movements;
mod indices;
mod products;
mod convolutions;
mod pools;
mod resample;
mod norms;
mod losses;
mod noise;
mod recurrent;
mod attention;
mod linalg;

/// One test a family, so that they run in parallel and a failure says where; and all families together.
macro_rules! families {
    ($($family:ident),* $(,)?) => {
        mod derivatives {$(
            #[test]
            fn $family() {
                crate::table::check_derivatives(crate::$family::cases());
            }
        )*}

        fn cases() -> Vec<Case> {
            [$($family::cases()),*].into_iter().flatten().collect()
        }
    };
}
families!(
    arithmetic,
    unary,
    activations,
    softmax,
    reductions,
    movements,
    indices,
    products,
    convolutions,
    pools,
    resample,
    norms,
    losses,
    noise,
    recurrent,
    attention,
    linalg,
);

#[test]
fn any_input_in_a_pass_puts_the_output_in_it() {
    for case in cases() {
        for inside in 0..case.inputs.len() {
            let pass = Pass::train(1);
            let mut x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
            x[inside] = pass.input(&case.inputs[inside]);
            for y in (case.run)(&x).unwrap() {
                assert!(y.is_training() && !y.is_recorded(), "{}: input {inside}", case.name);
            }
            if case.inputs[inside].dtype() == DType::F64 {
                x[inside] = pass.leaf(&case.inputs[inside]);
                for y in (case.run)(&x).unwrap() {
                    assert!(y.is_training(), "{}: leaf {inside}", case.name);
                    assert_eq!(y.is_recorded(), !case.cut && y.dtype().is_float(), "{}: leaf {inside}", case.name);
                }
            }
        }
    }
}

#[test]
fn outside_a_pass_nothing_is_recorded() {
    for case in cases() {
        let x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
        assert!((case.run)(&x).unwrap().iter().all(|y| !y.is_recorded() && y.pass().is_none()), "{}", case.name);
    }
}

#[test]
fn a_parameter_that_met_data_outside_the_pass_is_refused() {
    for case in cases().iter().filter(|case| !case.cut && case.differentiable().len() > 1) {
        let floats = case.differentiable();
        let pass = Pass::train(1);
        let outside = Var::from(Tensor::scalar(0.0f64));
        let mut x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
        x[floats[0]] = pass.leaf(&case.inputs[floats[0]]);
        x[floats[1]] = Param::new(case.inputs[floats[1]].clone()).on(&outside).mul_scalar(1.0);
        let error: Error = (case.run)(&x).unwrap_err();
        let text = "a parameter that met data outside any pass meets a recorded value: that parameter would never train; \
                    help: start from x.constant(..), or detach() it";
        assert!(error.to_string().ends_with(text), "{}: {error}", case.name);
    }
}

/// The inputs in a pass: leaves, as far as they can be differentiated.
fn entered(case: &Case, pass: &Pass) -> Vec<Var> {
    let enter = |x: &Tensor| if x.dtype() == DType::F64 { pass.leaf(x) } else { pass.input(x) };
    case.inputs.iter().map(enter).collect()
}

/// The first differentiable input is the part's; the others come from around it.
#[test]
fn a_checkpointed_op_is_the_same_bit_for_bit() {
    for case in cases().into_iter().filter(|case| !case.cut).map(Arc::new) {
        let first = case.differentiable()[0];
        let step = |checkpointed: bool| {
            let x = entered(&case, &Pass::train(1));
            let y = if checkpointed {
                let (case, around) = (case.clone(), x.clone());
                let part = move |_: &(), [x]: [Var; 1]| {
                    let mut all = around.clone();
                    all[first] = x;
                    Ok::<_, Error>((case.run)(&all)?.swap_remove(0))
                };
                checkpoint(&(), [&x[first]], part).unwrap()
            } else {
                (case.run)(&x).unwrap().swap_remove(0)
            };
            let grads = y.backward_from(y.value().add_scalar(1.0)).unwrap();
            let of = |x: &Var| x.is_recorded().then(|| grads.of(x).cloned());
            (y.value().clone(), x.iter().map(of).collect::<Vec<_>>())
        };
        assert_eq!(step(true), step(false), "{}", case.name);
    }
}

/// Whatever infinities an op uses inside, as masks do, nobody is told of.
#[test]
fn a_watched_pass_finds_nothing_in_sound_ops() {
    for case in cases() {
        let pass = Pass::train(1).detect_anomaly();
        let x = entered(&case, &pass);
        for y in (case.run)(&x).unwrap() {
            assert!(pass.anomaly().is_ok(), "{}: {:?}", case.name, pass.anomaly());
            if y.is_recorded() {
                let leaves: Vec<&dyn Leaf> = x.iter().filter(|x| x.is_recorded()).map(|x| x as &dyn Leaf).collect();
                for walk in [Walk::Keep, Walk::WithGraph] {
                    let walked = y.backward_from_to(y.value(), &leaves, walk);
                    assert!(walked.is_ok(), "{}: {walked:?}", case.name);
                }
            }
        }
    }
}

/// The sources are read from their folder, so that no file can be forgotten.
#[test]
fn every_public_op_is_in_the_table() {
    let in_table: Vec<&str> = cases().iter().map(|case| case.name).collect();
    let mut seen = 0;
    for source in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops"))) {
        assert!(!source.contains("record_kernel"), "an op without a second derivative: give it a twin");
        for name in public_methods(&source) {
            // The comparisons' names are given to a macro: they are in the table by hand.
            assert!(name == "$name" || in_table.contains(&name), "`{name}` is not in the table");
            seen += 1;
        }
    }
    assert!(seen > 60, "only {seen} ops found: has the layout of the sources changed?");
}

/// The text of every Rust file in a folder and the folders in it.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
    found
}

/// The names of the public methods in a source's `impl Var` blocks.
fn public_methods(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut in_var = false;
    for line in source.lines() {
        in_var = if line.starts_with("impl") { line == "impl Var {" } else { in_var };
        if let Some(rest) = line.trim().strip_prefix("pub fn ").filter(|_| in_var) {
            names.push(rest.split(['(', '<']).next().unwrap());
        }
    }
    names
}
