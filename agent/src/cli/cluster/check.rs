//! `statlink cluster check`: the preflight of every node.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::{
    api::{Api, Output},
    survey::{self, Answer},
};
use crate::{
    cli::{
        check::text,
        exit::{DONE, FAILED},
    },
    preflight::{Finding, Verdict},
    terminal::{printable, write_json},
};

/// The result of `statlink check` on one node.
#[derive(Debug)]
pub(super) struct Checked {
    findings: Vec<Finding>,
    code: u8,
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    pod: &'a str,
    exit_code: Option<u8>,
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Prints every problem by node, or all findings as JSON. Returns the worst exit code.
///
/// # Errors
///
/// If there are no agents, they cannot be listed, or standard output cannot be written.
pub(super) async fn run(api: &Api, json: bool) -> anyhow::Result<u8> {
    let agents = survey::agents(api).await?;
    let answers = survey::ask(api, agents, &["check", "--json"], read).await;
    let mut out = io::stdout().lock();
    if json {
        let nodes: Vec<_> = answers.iter().map(Node::of).collect();
        write_json(&mut out, &serde_json::to_string(&nodes)?)?;
    } else {
        write(&mut out, &answers)?;
    }
    Ok(worst(&answers))
}

/// A check with problems exits with an error code, but still prints its findings.
fn read(output: &Output) -> Result<Checked, String> {
    let json: Value =
        serde_json::from_str(&output.stdout).map_err(|_| survey::complaint(output))?;
    // A list, or an object that contains it.
    let findings = json.get("findings").cloned().unwrap_or(json);
    let findings = serde_json::from_value(findings)
        .map_err(|error| format!("an answer not understood: {error}"))?;
    Ok(Checked {
        findings,
        code: output.code,
    })
}

fn write(out: &mut impl Write, answers: &[Answer<Checked>]) -> io::Result<()> {
    for Answer { agent, answer } in answers {
        let Ok(Checked { findings, .. }) = answer else {
            continue;
        };
        let wrong = findings.iter().filter(|one| one.verdict != Verdict::Ok);
        let wrong: Vec<_> = wrong.cloned().collect();
        let node = printable(&agent.node);
        if wrong.is_empty() {
            writeln!(out, "{node}: ok, {} checks", findings.len())?;
        } else {
            writeln!(out, "{node}:")?;
            text(out, &wrong)?;
        }
    }
    for line in survey::footer(answers) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The worst of all exit codes; an agent that does not answer is a failure.
fn worst(answers: &[Answer<Checked>]) -> u8 {
    let codes = answers.iter().map(|Answer { answer, .. }| match answer {
        Ok(checked) => checked.code,
        Err(_) => FAILED,
    });
    codes.max().unwrap_or(DONE)
}

impl<'a> Node<'a> {
    fn of(Answer { agent, answer }: &'a Answer<Checked>) -> Self {
        let (findings, exit_code, error) = match answer {
            Ok(Checked { findings, code }) => (findings.as_slice(), Some(*code), None),
            Err(error) => (&[][..], None, Some(error.as_str())),
        };
        Self {
            node: &agent.node,
            pod: &agent.pod,
            exit_code,
            findings,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::survey::tests::pod, *};
    use crate::cli::{cluster::survey::Agent, exit::UNSUPPORTED};

    fn finding(subject: &str, verdict: &str) -> Value {
        json!({"subject": subject, "verdict": verdict, "purpose": "run", "detail": "so", "cure": "do"})
    }

    fn answer(node: &str, output: &Output) -> Answer<Checked> {
        Answer {
            agent: Agent::of(&pod("agent", node, &json!({"running": {}}))),
            answer: read(output),
        }
    }

    fn output(findings: &Value, code: u8) -> Output {
        Output {
            stdout: findings.to_string(),
            stderr: String::new(),
            code,
        }
    }

    #[test]
    fn only_what_is_wrong_is_shown_and_the_worst_code_counts() {
        let answers = [
            answer("node-1", &output(&json!([finding("kernel", "ok")]), 0)),
            answer(
                "node-2",
                &output(
                    &json!([
                        finding("kernel", "ok"),
                        finding("kernel types", "unsupported")
                    ]),
                    UNSUPPORTED,
                ),
            ),
        ];
        assert_eq!(worst(&answers), UNSUPPORTED);
        let mut out = Vec::new();
        write(&mut out, &answers).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("node-1: ok, 1 checks\nnode-2:\nFAILED "),
            "{text}"
        );
        assert!(!text.contains("ok       kernel"), "{text}");
    }

    #[test]
    fn one_that_does_not_answer_is_a_failure_with_its_reason() {
        let failed = Output {
            stdout: String::new(),
            stderr: "error: no such file\n".to_owned(),
            code: 1,
        };
        let answers = [answer("node-1", &failed)];
        assert_eq!(worst(&answers), FAILED);
        assert_eq!(answers[0].answer.as_ref().unwrap_err(), "no such file");
        let node = serde_json::to_value(Node::of(&answers[0])).unwrap();
        assert_eq!(node["error"], "no such file");
    }
}
