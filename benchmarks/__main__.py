"""Run every benchmark in sequence."""

from benchmarks import (
    boot_scripts,
    convergence,
    failover,
    healing,
    idle,
    journal,
    outside,
    planner,
    rpc,
    swarm,
    templates,
)

if __name__ == "__main__":
    outside.main()
    convergence.main()
    idle.main()
    healing.main()
    planner.main()
    journal.main()
    rpc.main()
    templates.main()
    boot_scripts.main()
    failover.main()
    swarm.main()
