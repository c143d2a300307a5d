//! `touch`: files that are there, and have just changed.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::super::view::View;
use super::options::{Options, Spec};
use super::{Answer, Call, words};

const SPEC: Spec = Spec {
    flags: "c",
    values: "",
    long: &[("no-create", 'c')],
    leading: false,
};

pub(super) async fn touch(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let makes = !options.has('c');
    let mut code = 0;
    for name in options.some_operands()? {
        let path = name.clone();
        let _paid = match makes {
            true => Some(call.pay_names(1).await),
            false => None,
        };
        let touched = call.files(move |view| change(view, &path, makes));
        if let Err(error) = touched.await {
            call.complain(&format!("{name}: {}", words(&error))).await;
            code = 1;
        }
    }
    Ok(code)
}

fn change(view: &View, path: &str, make: bool) -> io::Result<()> {
    let found = match view.to_change(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match make {
                true => view.create(path, true).map(drop),
                false => Ok(()),
            };
        }
        found => found?,
    };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(utimensat(CWD, same, &times, AtFlags::empty())?)
}
