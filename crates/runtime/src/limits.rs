//! What a workload may use, and the part of it that workloads beside each other share.

use std::sync::Arc;

use crate::Usage;
use crate::gate::Account;
use crate::memory::Memory;

/// What a workload may use of its node. All of it can be changed while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of linear memory and tables that the guest may have; beyond them it ends with
    /// [`Exit::OutOfMemory`](crate::Exit::OutOfMemory).
    pub memory: Option<u64>,
    /// Of these, bytes that the guest may have although all guests together have more than
    /// [the node](crate::Config::memory), or more than is [left](crate::Config::memory_left).
    pub memory_request: u64,
    /// Cores that the guest may use on average, such as `0.25`.
    pub cpu_quota: Option<f64>,
    /// The guest's share when guests compete for the node's cores, relative to the others' (the
    /// requested millicores, say). 0 counts as 1.
    pub cpu_weight: u32,
}

impl Default for Limits {
    /// Neither memory nor CPU are limited, and the share is that of 100 millicores.
    fn default() -> Self {
        Self {
            memory: None,
            memory_request: 0,
            cpu_quota: None,
            cpu_weight: 100,
        }
    }
}

/// Why limits were not changed. They are what they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// More memory is in use than the new limit.
    #[error("the memory limit cannot become {limit} bytes, for {used} bytes are in use")]
    MemoryInUse {
        /// The limit that was wished for, in bytes.
        limit: u64,
        /// What is in use, in bytes.
        used: u64,
    },
    /// The limits cannot be meant; the text names what is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl Limits {
    /// # Errors
    /// When they cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), ResizeError> {
        match self.cpu_quota {
            Some(quota) if quota.is_nan() || quota <= 0.0 => {
                Err(ResizeError::Invalid("a CPU quota is more than 0".into()))
            }
            _ => Ok(()),
        }
    }
}

/// What a workload and those beside it use together.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) memory: Arc<Memory>,
    /// Scripts use no CPU time.
    pub(crate) account: Option<Arc<Account>>,
}

impl Resources {
    /// Has all of these limits hold from now on, or none.
    pub(crate) fn resize(&self, limits: Limits) -> Result<(), ResizeError> {
        limits.validate()?;
        self.memory.resize(limits.memory, limits.memory_request)?;
        if let Some(account) = &self.account {
            account.resize(limits.cpu_weight, limits.cpu_quota);
        }
        Ok(())
    }

    pub(crate) fn usage(&self) -> Usage {
        let cpu = self.account.as_ref().map(|account| account.used());
        Usage {
            cpu: cpu.unwrap_or_default(),
            memory: self.memory.used(),
        }
    }
}
