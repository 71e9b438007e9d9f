//! `mlxr doctor`: what there is to compute with, and what is amiss. Changes nothing, and uses no network unless a
//! model is to be compared that is not there.

mod built_in;
mod caches;
mod check;
mod machine;
mod mlx;
mod parity;

use mlxr::Result;
use serde::Serialize;

use crate::args::Doctor;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::table::{Align, Table};
use built_in::BuiltIn;
use caches::Caches;
use check::{Check, Verdict};
use machine::Machine;
use mlx::Mlx;

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    /// The worst of all checks.
    verdict: Verdict,
    mlx: Mlx,
    machine: Machine,
    caches: Caches,
    built_in_model: BuiltIn,
    /// The names of variables that are set; their values are not shown.
    environment: Vec<&'static str>,
    /// The same for people.
    checks: Vec<Check>,
}

/// Looks at everything and shows it.
pub(crate) fn run(args: &Doctor, settings: &Settings, printer: Printer) -> Result<Exit> {
    if let Some(model) = &args.parity {
        let name = Some(model.as_str()).filter(|name| !name.is_empty());
        return parity::run(name, args.json, settings, printer);
    }
    let findings = Findings::of(settings, printer);
    if args.json {
        // It has string keys and finite numbers only, so it cannot fail.
        printer::json(&serde_json::to_value(&findings).unwrap_or_default())?;
    } else {
        printer::data(&shown(&findings.checks, settings.terminals.stdout))?;
    }
    printer::flush()?;
    let count = |verdict| {
        let of_it = findings.checks.iter().filter(|row| row.verdict == verdict);
        of_it.count()
    };
    printer.talk(format_args!(
        "problems: {}, notes: {}",
        count(Verdict::Problem),
        count(Verdict::Note)
    ));
    Ok(match findings.verdict {
        Verdict::Problem => Exit::Missing,
        Verdict::Ok | Verdict::Note => Exit::Success,
    })
}

impl Findings {
    fn of(settings: &Settings, printer: Printer) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut checks = vec![Check::ok("mlxr", version)];
        let mlx = Mlx::look(settings, &mut checks);
        let machine = Machine::look(&mut checks);
        let caches = Caches::look(settings, &mut checks);
        let built_in_model = BuiltIn::look(mlx.is_loaded(), settings, printer, &mut checks);
        let set = if settings.set.is_empty() {
            "nothing is set".to_owned()
        } else {
            format!("{} set", settings.set.join(", "))
        };
        checks.push(Check::ok("environment", set));
        let verdicts = checks.iter().map(|check| check.verdict);
        Self {
            version,
            verdict: verdicts.max().unwrap_or(Verdict::Ok),
            mlx,
            machine,
            caches,
            built_in_model,
            environment: settings.set.clone(),
            checks,
        }
    }
}

/// A table, and below it what to do.
fn shown(checks: &[Check], on_terminal: bool) -> String {
    let mut table = Table::default();
    let names = checks.iter().map(|check| check.name.clone());
    table.column("check", Align::Left, names);
    let verdicts = checks.iter().map(|check| check.verdict.to_string());
    table.column("verdict", Align::Left, verdicts);
    let found = checks.iter().map(|check| check.found.clone());
    table.column("found", Align::Left, found);
    let advice = checks.iter().filter_map(|check| {
        let advice = check.advice.as_ref()?;
        Some(format!("\n{}: {}: {advice}\n", check.verdict, check.name))
    });
    table.shown(on_terminal) + &advice.collect::<String>()
}
