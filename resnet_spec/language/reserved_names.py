"""Names that no layer can have, because modules of the frameworks or of this project have an attribute of that name.

A layer is an attribute of the module that holds it: ``model.layer1.conv1``. torch.nn.Module rejects a layer named
``train`` with a KeyError; paddle.nn.Layer and nnx.Module let it shadow the method. A name that one framework reserves
is rejected for all of them when a spec is read, so that a spec builds in every framework or in none.
``tests/language/test_reserved_names.py`` compares the lists with the installed frameworks.
"""

from __future__ import annotations

_ATTRIBUTES = {
    "torch.nn.Module": """
        T_destination _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl
        _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
        _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_item_by_idx _get_name
        _is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks
        _maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters
        _register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel
        _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl
        add_module append apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
        eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half insert
        ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
        pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
        register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
        register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
        register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
        to_empty train training type xpu zero_grad
    """,
    "paddle.nn.Layer": """
        _apply _buffers _build_once _built _cast_to_low_precision _customized_attrs _dtype _dygraph_call_func
        _forward_post_hooks _forward_post_hooks_always_called _forward_post_hooks_with_kwargs_flag
        _forward_pre_hooks _forward_pre_hooks_with_kwargs_flag _full_name _get_name _helper
        _init_in_dynamic_mode _loaddict_holder _modules _non_persistable_buffer_names_set
        _non_persistent_buffers_set _obtain_parameters_buffers _op_recorder _original_funcs _parameters
        _set_op_attrs _startup_program _state_dict_hooks _state_dict_impl _sub_layers _to_impl _transform
        add_module add_parameter add_sublayer append apply astype backward bfloat16 buffers children
        clear_gradients cpu create_parameter create_tensor create_variable cuda double eval extend extra_repr
        float float16 forward full full_name get_buffer get_extra_state get_parameter get_sublayer get_submodule
        half insert load_dict load_state_dict modules named_buffers named_children named_modules
        named_parameters named_sublayers parameters register_buffer register_forward_hook
        register_forward_post_hook register_forward_pre_hook register_module register_parameter
        register_state_dict_hook requires_grad_ set_dict set_state_dict set_sublayer set_submodule
        sharded_state_dict state_dict sublayers to to_static_state_dict train training type xpu zero_grad
    """,
    "flax.nnx.Module": """
        _MutableMapping__marker _abc_impl _check_valid_context _check_value _graph_node_clear
        _graph_node_create_empty _graph_node_flatten _graph_node_init _graph_node_pop_key _graph_node_set_key
        _is_protocol _object__nodes _object__state _pytree__flatten _pytree__flatten_with_paths
        _pytree__has_int_keys _pytree__is_pytree _pytree__nodes _pytree__state _pytree__unflatten _setattr clear
        eval get items iter_children iter_modules keys perturb pop popitem set_attributes setdefault sow train
        update values
    """,
    "the modules that resnet-spec builds": """
        _after _before _branch _cascade _combine _holder _make_contexts _missing_axes _network _parts _reads
        _recomputes _refuse_channels_first _run _run_alone _shortcut _split _steps network resnet_spec_backend
    """,
    "operations that have weights": """
        bias num_batches_tracked running_mean running_var weight
    """,
}

WEIGHT_NAMES = frozenset(_ATTRIBUTES["operations that have weights"].split())
"""The names of weights. An operation whose weight has the operation's own name may have one of them."""

RESERVED: dict[str, str] = {name: owner for owner in reversed(_ATTRIBUTES) for name in _ATTRIBUTES[owner].split()}
"""The owner of the attribute that reserves each name."""


def why_reserved(path: str) -> str:
    """Return why a layer can't have a name, or one of the names that its dots separate; empty if it can."""
    for name in path.split("."):
        if name in RESERVED:
            return f"{name!r} is an attribute of {RESERVED[name]}"
        if name.startswith("__"):
            return f"{name!r} starts with two underscores, which Python reserves for itself"
    return ""
