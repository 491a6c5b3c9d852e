"""The commands of ``resnet-spec``, a file for each group of them; ``resnet_spec/commands/main.py`` names them all."""
