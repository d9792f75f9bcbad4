module transform.{{name}}

go 1.26
