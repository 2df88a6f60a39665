{# One row for each combination of these columns. #}
{% test unique_together(model, columns) %}
SELECT {{ columns | join(", ") }}, count(*) AS n
FROM {{ model }}
GROUP BY {{ columns | join(", ") }}
HAVING count(*) > 1
{% endtest %}

{% test not_negative(model, column_name) %}
SELECT * FROM {{ model }} WHERE {{ column_name }} < 0
{% endtest %}
