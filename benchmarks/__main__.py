"""Every figure, one after the other."""

from benchmarks import convergence, failover, healing, idle, journal, planner, rpc

if __name__ == "__main__":
    convergence.main()
    idle.main()
    healing.main()
    planner.main()
    journal.main()
    rpc.main()
    failover.main()
