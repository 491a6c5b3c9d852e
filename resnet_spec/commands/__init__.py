"""The commands of ``resnet-spec``, a file for each group of them; ``resnet_spec/cli.py`` names them all."""
