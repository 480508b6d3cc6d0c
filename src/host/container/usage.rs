//! Whether a container does any work: the processor time that its processes have used.

use std::time::Duration;

use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;

use super::engine::Engine;
use super::error::ContainerError;

impl Engine {
    /// The processor time that everything in container `id` has used since it started; `None` where Docker cannot tell,
    /// which it writes as none at all.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked.
    pub async fn processor_time(&self, id: &str) -> Result<Option<Duration>, ContainerError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut told = std::pin::pin!(self.docker.stats(id, Some(options)));
        let Some(told) = told.next().await else { return Ok(None) };
        let told = told.map_err(|error| ContainerError::asked("inspect", id, error))?;
        let used = told.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        Ok(used.filter(|used| *used > 0).map(Duration::from_nanos))
    }
}
