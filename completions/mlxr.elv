
set edit:completion:arg-completer[mlxr] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) MLXR_COMPLETE="elvish" mlxr -- $@words) | to-lines
}

