"""Compare training with biased and unbiased running variance in a framework. ``run.py`` runs this script."""

from __future__ import annotations

from importlib import import_module

from measure import Case, compare, parse_arguments, print_records, time_in_turn

from resnet_spec import build, loads

RULES = ("unbiased", "biased")
BATCH = 8


def main() -> None:
    options = parse_arguments()
    framework, rounds = options.model, 2 * options.rounds
    against = import_module(f"against_{framework}")
    models = {
        rule: build(
            loads(f"{{name: ruled, extends: resnet18, defaults: {{batch_norm: {{variance: {rule}}}}}}}"),
            backend=framework,
        )
        for rule in RULES
    }
    x = against.make_images(BATCH)
    seconds = time_in_turn({rule: against.make_training_step(model, x) for rule, model in models.items()}, rounds)
    case = Case(framework, "resnet18", BATCH, "training step, variance: unbiased")
    print_records([compare(seconds, "unbiased", "biased", case)])


if __name__ == "__main__":
    main()
