//! Three machines that each have a network of their own, far from each other, one of which is cut off and comes back.
//!
//! The machines are network namespaces behind one bridge, which only root may make.

mod delay;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carob_tests::{Outcome, carob, check, root, succeed, until, with_input};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};

/// How many machines there are.
const MACHINES: u8 = 3;
/// How long a word takes from a machine to the bridge: a quarter of what it takes to another and back.
const DELAY: Duration = Duration::from_millis(10);
/// Within which a cut connection is reset.
const RESET_WITHIN: Duration = Duration::from_secs(7);
/// What the test itself takes to see what has happened.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

fn main() {
    let arguments = Arguments::from_args();
    let cut = Trial::ignorable_test(
        "a_machine_is_cut_off_and_comes_back",
        || match Machines::start()? {
            Some(machines) => cut_off(&machines).map(|()| Completion::Completed),
            None => Ok(Completion::ignored_with(
                "network namespaces want root and iproute2",
            )),
        },
    );
    libtest_mimic::run(&arguments, vec![cut]).exit();
}

/// Runs `ip`.
fn ip(words: &str) -> Outcome {
    succeed(Command::new("ip").args(words.split(' '))).map(drop)
}

/// The machines, with a server and an agent each. They go when this is dropped.
struct Machines {
    dir: tempfile::TempDir,
    /// What tells this test's from others' that run meanwhile.
    mark: u32,
    /// Whether it takes time to get to them.
    far: bool,
    servers: Vec<Child>,
}

impl Machines {
    /// None where namespaces may not be made.
    fn start() -> Result<Option<Self>, Failed> {
        let mark = std::process::id();
        let probe = format!("carob-probe-{mark}");
        if let Err(why) = ip(&format!("netns add {probe}")) {
            println!("left out: {}", why.message().unwrap_or_default());
            return Ok(None);
        }
        ip(&format!("netns del {probe}"))?;
        let mut machines = Self {
            dir: tempfile::tempdir()?,
            mark,
            far: true,
            servers: Vec::new(),
        };
        machines.wire()?;
        for machine in 1..=MACHINES {
            machines.boot(machine)?;
        }
        Ok(Some(machines))
    }

    fn namespace(&self, machine: u8) -> String {
        format!("carob-{}-{machine}", self.mark)
    }

    /// The bridge's end of a machine's cable. An interface's name has 15 characters at most.
    fn cable(&self, machine: u8) -> String {
        format!("cb{}-{machine}", self.mark)
    }

    fn bridge(&self) -> String {
        format!("cb{}", self.mark)
    }

    /// The address of a machine; of the bridge, where the test itself is, for 0.
    fn address(&self, machine: u8) -> String {
        format!("10.77.{}.{}", self.mark % 256, 10 + machine)
    }

    fn wire(&mut self) -> Outcome {
        let (bridge, own) = (self.bridge(), self.address(0));
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {own}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for machine in 1..=MACHINES {
            let (space, cable) = (self.namespace(machine), self.cable(machine));
            let address = self.address(machine);
            ip(&format!("netns add {space}"))?;
            let inner = format!("cm{}-{machine}", self.mark);
            if let Err(error) = delay::cable(&cable, &inner, DELAY) {
                println!(
                    "left out: the way between the machines, for want of TAP devices: {error}"
                );
                ip(&format!("link add {cable} type veth peer name {inner}"))?;
                self.far = false;
            }
            ip(&format!("link set {inner} netns {space} name eth0"))?;
            ip(&format!("link set {cable} master {bridge} up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(())
    }

    /// Starts a machine's server, which joins those before it, and waits until its node is ready.
    fn boot(&mut self, machine: u8) -> Outcome {
        let dir = self.dir.path().join(machine.to_string());
        let mut server = Command::new("ip");
        server.args(["netns", "exec", &self.namespace(machine)]);
        server
            .arg(carob())
            .arg("server")
            .arg("--data-dir")
            .arg(&dir);
        server.args(["--node-name", &format!("m{machine}")]);
        server.args(["--advertise", &self.address(machine)]);
        if machine > 1 {
            let token = self.carob("token create --role server")?;
            server.env("CAROB_TOKEN", token.trim());
            server.args(["--join", &self.url()?]);
        }
        server.stdin(Stdio::null()).stdout(Stdio::null());
        self.servers.push(server.spawn()?);
        until("the node is ready", Duration::from_secs(30), || {
            if machine == 1 && self.write_kubeconfig().is_err() {
                return Ok(false);
            }
            Ok(self.is_ready(machine))
        })
    }

    fn is_ready(&self, machine: u8) -> bool {
        let node = self.get(&format!("nodes/m{machine}"));
        let conditions = node.map(|node| node["status"]["conditions"].clone());
        let conditions = conditions.unwrap_or_default();
        let mut conditions = conditions.as_array().into_iter().flatten();
        conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    }

    /// How long a connection to the first server takes to be made.
    fn connects_within(&self) -> Result<Duration, Failed> {
        let url = self.url()?;
        let begun = Instant::now();
        TcpStream::connect(url.trim_start_matches("https://"))?;
        Ok(begun.elapsed())
    }

    /// Where the first server is.
    fn url(&self) -> Result<String, Failed> {
        let ports = fs::read(self.dir.path().join("1/server/ports.json"))?;
        let ports: Value = serde_json::from_slice(&ports)?;
        Ok(format!("https://{}:{}", self.address(1), ports["api"]))
    }

    fn write_kubeconfig(&self) -> Outcome {
        let pki = self.dir.path().join("1/server/pki");
        let cluster = json!({"server": self.url()?, "certificate-authority": pki.join("ca.crt")});
        let user = json!({"client-certificate": pki.join("admin.crt"), "client-key": pki.join("admin.key")});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(self.dir.path().join("kubeconfig"), kubeconfig.to_string())?;
        Ok(())
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(carob());
        command.args(words.split(' '));
        command.env("KUBECONFIG", self.dir.path().join("kubeconfig"));
        command
    }

    fn carob(&self, words: &str) -> Result<String, Failed> {
        succeed(&mut self.command(words))
    }

    fn get(&self, what: &str) -> Result<Value, Failed> {
        let text = self.carob(&format!("get {what} -o json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Creates a pod that runs the talker with these words on a machine.
    fn run(&self, name: &str, machine: u8, args: &[&str]) -> Outcome {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name.split('-').next()}},
            "spec": {"nodeName": format!("m{machine}"), "restartPolicy": "Never", "containers": [{
                "name": "c", "image": "talker", "args": args, "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ]}]},
        });
        with_input(self.command("apply -f -"), &pod.to_string()).map(drop)
    }

    fn serve(&self, name: &str) -> Outcome {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        with_input(self.command("apply -f -"), &service.to_string()).map(drop)
    }

    /// Waits until a Service has so many endpoints.
    fn endpoints(&self, service: &str, count: usize) -> Outcome {
        let what = format!("{service} has {count} endpoints");
        until(&what, Duration::from_secs(20), || {
            let of = format!("endpointslices -l kubernetes.io/service-name={service}");
            let slices = self.get(&of)?["items"].clone();
            let slices = slices.as_array().into_iter().flatten();
            let ready = slices
                .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
                .filter(|endpoint| endpoint["conditions"]["ready"] == true);
            Ok(ready.count() == count)
        })
    }

    /// What a program says that runs on the first machine to its end, and whether it succeeded.
    fn says(&self, args: &[&str]) -> Result<(String, bool), Failed> {
        self.run("client", 1, args)?;
        let mut phase = Value::Null;
        until("the client ends", Duration::from_secs(30), || {
            phase = self.get("pods/client")?["status"]["phase"].clone();
            Ok(phase == "Succeeded" || phase == "Failed")
        })?;
        let said = self.carob("logs client")?;
        self.carob("delete pod/client")?;
        Ok((said, phase == "Succeeded"))
    }

    /// Who of the three answers at the Service, asked nine times from the first machine; nobody may fail to.
    fn answering(&self) -> Result<BTreeSet<String>, Failed> {
        let (said, done) = self.says(&["ask", "--times", "9", "web:80"])?;
        check(done && said.lines().count() == 9, &said)?;
        let names = said.lines().filter_map(|line| line.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Waits until a pod's log says something.
    fn logged(&self, pod: &str, what: &str, within: Duration) -> Outcome {
        until(&format!("{pod} says {what}"), within, || {
            let log = self.carob(&format!("logs {pod}")).unwrap_or_default();
            Ok(log.contains(what))
        })
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in 1..=MACHINES {
            let space = self.namespace(machine);
            // A server's agent outlives it: whoever is in the namespace goes with it.
            let pids = succeed(Command::new("ip").args(["netns", "pids", &space]));
            for pid in pids.unwrap_or_default().split_whitespace() {
                let _ = succeed(Command::new("kill").args(["-9", pid]));
            }
            let _ = ip(&format!("netns del {space}"));
            let _ = ip(&format!("link del {}", self.cable(machine)));
        }
        for server in &mut self.servers {
            let _ = server.wait();
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn cut_off(machines: &Machines) -> Outcome {
    let way = machines.connects_within()?;
    println!("it takes {way:.1?} to a machine and back");
    check(!machines.far || way >= 2 * DELAY, format!("{way:?}"))?;
    let module = root().join("examples/services/talker.wasm");
    succeed(machines.command("push").arg(module).arg("talker"))?;
    for machine in 1..=MACHINES {
        machines.run(&format!("web-{machine}"), machine, &["serve", "8080"])?;
    }
    machines.serve("web")?;
    machines.run("idle", MACHINES, &["serve", "8080"])?;
    machines.serve("idle")?;
    machines.endpoints("web", 3)?;
    machines.endpoints("idle", 1)?;
    let all = machines.answering()?;
    check(all.len() == 3, format!("{all:?}"))?;
    machines.run("holder", 1, &["hold", "idle:80"])?;
    machines.logged("holder", "connected", Duration::from_secs(10))?;

    let cable = machines.cable(MACHINES);
    ip(&format!("link set {cable} down"))?;
    let cut = Instant::now();
    machines.logged("holder", "broken", RESET_WITHIN + SEEN_WITHIN)?;
    println!("its connection ended after {:.1?}", cut.elapsed());
    machines.endpoints("web", 2)?;
    println!("its endpoint was gone after {:.1?}", cut.elapsed());
    let left = machines.answering()?;
    let due: BTreeSet<String> = ["web-1", "web-2"].map(str::to_owned).into();
    check(left == due, format!("{left:?}"))?;
    let (said, done) = machines.says(&["ask", "idle:80"])?;
    check(!done, format!("who is cut off answers: {said}"))?;

    ip(&format!("link set {cable} up"))?;
    let healed = Instant::now();
    machines.endpoints("web", 3)?;
    println!("it was there again after {:.1?}", healed.elapsed());
    check(machines.is_ready(MACHINES), "its node is not ready")?;
    let all = machines.answering()?;
    check(all.len() == 3, format!("{all:?}"))?;
    machines.run("again", 1, &["hold", "idle:80"])?;
    machines.logged("again", "connected", Duration::from_secs(10))
}
