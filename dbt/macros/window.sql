{# The part of the fleet that a shard is: storage.readings says the same. #}
{% macro in_shard(uc_id) -%}
    {{ uc_id }} % {{ var("shards") | int }} = {{ var("shard") | int }}
{%- endmacro %}

{# Rows of the days and the part of the fleet that this run makes again. #}
{% macro in_window(day, uc_id) -%}
    {{ day }} BETWEEN '{{ var("first_day") }}'::date AND '{{ var("last_day") }}'::date
    {%- if var("shards") | int > 1 %}
    AND {{ in_shard(uc_id) }}
    {%- endif %}
{%- endmacro %}

{# A run replaces its own window whole: a UC-day that is gone from the source must go here too, and
   dbt's delete+insert only deletes keys that come again. #}
{% macro clear_window(day="day", uc_id="uc_id") -%}
    {% if is_incremental() %}
        DELETE FROM {{ this }} WHERE {{ in_window(day, uc_id) }}
    {% else %}
        SELECT 1
    {% endif %}
{%- endmacro %}
