from pipeline.exit_codes import leave
from pipeline.tune.cli import main

if __name__ == "__main__":
    leave(main())
