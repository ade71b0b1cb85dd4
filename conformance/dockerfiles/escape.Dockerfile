# escape=`
FROM windows-like
COPY C:\dir\file.txt D:\
RUN dir `
    # a comment
    c:\
WORKDIR C:`\x
