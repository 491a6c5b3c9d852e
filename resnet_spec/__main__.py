"""``python -m resnet_spec``: the command line."""

from resnet_spec.commands.main import main

if __name__ == "__main__":
    main()
